"""From an empty platform to a model that is served and measured, by the commands of the documents as written."""

import re
from pathlib import Path

import pytest
import services

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.timeout(2 * services.STARTUP_SECONDS)


def blocks(document: str) -> str:
    """The blocks of a document that are marked to be run, in a row."""
    text = (ROOT / document).read_text(encoding="utf-8")
    marked = re.findall(r"^<!-- tested -->\n```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert marked, f"{document} has no block that is marked"
    return "".join(marked)


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, f"the guide does not say {old!r} any more"
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def dev(laptop):
    with laptop.dev() as running:
        yield running


@pytest.mark.parametrize(
    ("task", "name", "truth", "answer"),
    [
        ("binary", "churn", "no", '"label":"yes"'),
        ("multiclass", "plans", "basic", '"label":"basic"'),
        ("regression", "bills", "18.5", '"value":'),
    ],
)
def test_the_guide_leads_to_a_prediction_and_out_again(laptop, dev, task, name, truth, answer) -> None:
    script = blocks("docs/add-a-model.md")
    value = f'"truth": {truth}' if task == "regression" else f'"truth": "{truth}"'
    before, after = replaced(
        script, ("churn", name), ("--task binary", f"--task {task}"), ('"truth": "no"', value)
    ).split("git rm")  # fmt: skip
    if task == "binary":
        before = before.replace("kill $!", blocks("docs/clients.md") + "kill %1")
    else:  # `promote run` judges by the same gate
        before = replaced(before, ("plumbline promote check ", ": "))
    said = laptop.bash(before)
    assert answer in said, said
    assert f'"model":"{name}","version":"v1.0.0"' in said, said
    assert re.search(r"^v1\.0\.0 +stable ", said, re.MULTILINE), said

    if task == "binary":
        clients = dict(re.findall(r"(python|oip): (yes [\d.]+)$", said, re.MULTILINE))
        assert clients.keys() == {"python", "oip"}, said
        [probability] = {float(text.split()[1]) for text in clients.values()}
        assert said.count(f'"yes":{probability}') == 3, "the guide's curl, and both of this page"
        assert "refused: [{'field': 'features.months'" in said, said

    refused = laptop.bash(f"source .dev/env; plumbline remove-model {name}", expect=10)
    assert f"clusters/local/models/{name}/release.yaml names a release of {name}" in refused
    laptop.bash(f"source .dev/env; git rm{after}")
    changed = laptop.bash("git status --porcelain").splitlines()
    assert changed
    assert not [line for line in changed if not re.match(rf" D .*\b{name}\b", line)], (
        "only what new-model wrote is gone"
    )
    assert not list(laptop.folder.glob(f"[!.]*/**/{name}*"))
    laptop.bash("git add --all; git commit -qm 'taken away'")


def test_the_readme_leads_into_the_guide(laptop, dev) -> None:
    said = laptop.bash(blocks("README.md"))
    assert "Usage: plumbline COMMAND" in said
    assert "app-src/models/churn/__init__.py" in said
    laptop.bash("source .dev/env; plumbline remove-model churn --yes")
