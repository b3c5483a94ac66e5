"""What git says is shown without what it must not say."""

import pytest

from plumbline.promotion.delivery.git import _mask


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fatal: https://ada:secret@forge/x.git", "fatal: https://***@forge/x.git"),
        ("ssh://git@forge/x.git and https://t@forge", "ssh://***@forge/x.git and https://***@forge"),
        ("/srv/git/x.git mail ada@forge", "/srv/git/x.git mail ada@forge"),
    ],
)
def test_credentials_are_hidden(text: str, shown: str) -> None:
    assert _mask(text) == shown
