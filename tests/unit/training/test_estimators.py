"""The page of estimators says what the installed libraries do: all by `make estimators`, here a few of its rows."""

from pathlib import Path

import estimators
import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "estimators.md").read_text(encoding="utf-8")
KINDS: dict[str, dict[str, type]] = {}
for name, kind, task in estimators.estimators():
    KINDS.setdefault(name, {})[task] = kind


def test_the_page_is_of_the_installed_libraries_and_names_all_their_estimators():
    assert PAGE.startswith(estimators.head()), "run `make estimators`"
    rows = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.splitlines() if line.startswith("| ")]
    assert rows[2:] == sorted(KINDS), "run `make estimators`"


@pytest.mark.parametrize(
    "name",
    [
        "HistGradientBoostingClassifier",
        "XGBClassifier",
        "LGBMClassifier",
        "Ridge",
        "LinearDiscriminantAnalysis",
        "LinearSVC",
    ],
)
def test_a_row_of_the_page_is_what_a_trial_gives(name):
    tasks = {task: estimators.tried(kind, task) for task, kind in KINDS[name].items()}
    assert estimators.row(name, tasks) in PAGE.splitlines(), "run `make estimators`"
