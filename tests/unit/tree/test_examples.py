"""Examples of the admission policies are read strictly."""

from pathlib import Path

import pytest

from plumbline.core.documents import DocumentError
from plumbline.tree.validate.examples import read_examples


def test_an_example_in_which_a_key_stands_twice_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "policies/admission/examples/rule"
    folder.mkdir(parents=True)
    (folder / "refused-odd.yaml").write_text("of: server\nof: workflow\nchange: []\n")
    with pytest.raises(DocumentError, match=r"refused-odd\.yaml: .* 'of' stands twice"):
        read_examples(tmp_path)
