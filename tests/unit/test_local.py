"""`make dev` and `make demo` ask git of this repository, wherever they are started from."""

from pathlib import Path

import local
import pytest

from plumbline.core import programs


def test_the_digest_of_the_sources_is_this_repositorys_in_a_hook_of_another_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = local.source_digest()
    programs.git("init", "--quiet", cwd=tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    assert local.source_digest() == before
