"""The mutants are told apart, and those of admission are examples that there are; `make mutants` brings them in."""

from pathlib import Path

from mutants.admitted import SENT
from mutants.pages import page
from mutants.tampered import MUTANTS as TAMPERED
from mutants.trained import MUTANTS as TRAINED

ROOT = Path(__file__).resolve().parents[2]


def test_each_mutant_is_another_and_stands_on_the_page() -> None:
    """The page that is in git is that of these mutants: whoever adds one runs them all."""
    names = [*(one.name for one in (*TRAINED, *TAMPERED)), *(one.name for one in SENT)]
    assert len(set(names)) == len(names) >= 50
    assert (ROOT / "docs/mutants.md").read_text() == page()
    assert all(f"| {name} |" in page() for name in names)
    assert all((ROOT / one.path).exists() for one in SENT)
