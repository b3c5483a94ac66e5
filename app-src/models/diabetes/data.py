"""Where the data come from: scikit-learn holds them (Efron et al., LARS, 2004)."""

from pathlib import Path

from sklearn.datasets import load_diabetes


def fetch(directory: Path) -> None:
    """Write patients.csv from scikit-learn's own copy, unscaled."""
    frame = load_diabetes(as_frame=True, scaled=False).frame
    frame.astype({"sex": int}).to_csv(directory / "patients.csv", index=False, lineterminator="\n")
