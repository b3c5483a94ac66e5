"""What a pull request says that it changes: for people first, then field by field."""

import json
import subprocess
from pathlib import Path

import pytest
from trees import ladder
from typer.testing import CliRunner

from plumbline.tree.cli import app
from plumbline.tree.render.example import example_release

FOLDER = "clusters/production/models/flights"


def git(root: Path, *arguments: str) -> None:
    author = ("-c", "user.name=test", "-c", "user.email=test@plumbline.dev")
    subprocess.run(["git", "-C", root, *author, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tree: Path) -> Path:
    (tree / FOLDER / "release.yaml").write_text(example_release("flights"))
    ladder(tree / FOLDER / "canary.yaml", 10, 50, 100)
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "as it stands")
    return tree


def said(root: Path) -> dict[str, str]:
    """{environment: its section}."""
    done = CliRunner().invoke(app, ["diff", "--root", str(root)])
    assert done.exit_code == 0, done.output
    sections = done.output.split("### ")[1:]
    return {section.split("\n", 1)[0]: section for section in sections}


def first_line(root: Path) -> str:
    return CliRunner().invoke(app, ["diff", "--root", str(root)]).output.split("\n", 1)[0]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_weight_and_a_version_are_said_in_words_and_in_fields(repository: Path) -> None:
    edit(repository / FOLDER / "canary.yaml", "setWeight: 10\n", "setWeight: 20\n")
    edit(repository / FOLDER / "release.yaml", "version: v0.0.0", "version: v0.1.0")
    sections = said(repository)
    assert sections["local"] == "local\n\nNo change.\n\n"
    production = sections["production"]
    assert "- **flights: weight 10 → 20**\n- **flights: version v0.0.0 → v0.1.0**\n" in production
    field = "models/Rollout/flights-server spec.strategy.canary.steps.0.setWeight"
    assert f"- {field}: 10\n+ {field}: 20\n" in production
    others = {path.name for path in (repository / FOLDER).parent.iterdir()} - {"flights"}
    assert not [model for model in others if f"models/Rollout/{model}-server" in production]
    document = json.loads(CliRunner().invoke(app, ["diff", "--root", str(repository), "--json"]).stdout)
    (changed,) = (item for item in document if item["changes"])
    assert (changed["environment"], changed["meanings"][0]) == ("production", "**flights: weight 10 → 20**")
    assert {"object": "models/Rollout/flights-server", "field": field.split()[1], "before": 10, "after": 20} in changed[
        "changes"
    ]


def test_another_rung_is_said_as_a_ladder(repository: Path) -> None:
    more = "setWeight: 10\n    - analysis: {templates: [{templateName: verdict}]}\n    - setWeight: 20\n"
    edit(repository / FOLDER / "canary.yaml", "setWeight: 10\n", more)
    assert "**flights: weights 10, 50, 100 → 10, 20, 50, 100**" in said(repository)["production"]


def test_a_third_party_and_a_removed_model_are_said(repository: Path) -> None:
    edit(repository / "apps/argo-rollouts.yaml", "targetRevision: v1.10.1", "targetRevision: v1.10.0")
    for file in (repository / FOLDER).iterdir():
        file.unlink()
    (repository / FOLDER).rmdir()
    production = said(repository)["production"]
    assert "- argo-rollouts: v1.10.1 → v1.10.0\n" in production
    assert "- **flights: weights 10, 50, 100 → none**" in production
    assert "- **flights: version v0.0.0 → none**" in production
    assert "- models/Rollout/flights-server: there\n" in production


def test_without_a_base_the_command_says_so_and_fails(repository: Path) -> None:
    done = CliRunner().invoke(app, ["diff", "--root", str(repository), "--base", "elsewhere"])
    assert done.exit_code == 1
    assert "no commit to compare with" in done.output


def test_a_renamed_workload_is_said_with_what_argo_cd_deletes(repository: Path) -> None:
    workloads = repository / "clusters/local/workloads"
    (workloads / "postgresql").rename(workloads / "postgres")
    local = said(repository)["local"]
    assert "- **Application postgres comes**: clusters/local/workloads/postgres into the namespace postgres\n" in local
    goes = "- **Application postgresql goes**: Argo CD deletes postgresql/StatefulSet/postgresql, "
    [line] = [line for line in local.splitlines() if line.startswith(goes)]
    assert line.endswith(", once a person confirms it")
    assert first_line(repository) == "Reaches local."


def test_a_release_that_is_taken_away_takes_its_model(repository: Path) -> None:
    (repository / FOLDER / "release.yaml").unlink()
    sections = said(repository)
    assert "**Application model-flights goes**: Argo CD deletes models/Rollout/flights-server" in sections["production"]
    assert first_line(repository) == "Reaches production."


def test_a_change_of_the_base_reaches_every_environment_and_a_document_none(repository: Path) -> None:
    assert first_line(repository) == "Reaches no environment."
    edit(repository / "kustomize/model-server/rollout.yaml", "revisionHistoryLimit: 3", "revisionHistoryLimit: 4")
    assert first_line(repository) == f"Reaches {', '.join(sorted(said(repository)))}."


def breaks_main(repository: Path, name: str, text: str) -> str:
    """Commit a broken file to main and mend it in the work tree, with a change beside it; returns the report."""
    file = repository / name
    right = file.read_text()
    file.write_text(text)
    git(repository, "commit", "-qam", "main is broken")
    file.write_text(right)
    edit(repository / FOLDER / "canary.yaml", "setWeight: 10\n", "setWeight: 20\n")
    done = CliRunner().invoke(app, ["diff", "--root", str(repository)])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("text", ["resources: [nothing.yaml]\n", "{: no YAML", "", "[]\n"])
def test_what_mends_a_broken_main_is_reported(repository: Path, text: str) -> None:
    output = breaks_main(repository, "clusters/local/gateway/kustomization.yaml", text)
    sections = {part.split("\n", 1)[0]: part for part in output.split("### ")[1:]}
    unknown = "- **unknown**: clusters/local/gateway does not build in the base, so what changes there is unknown: "
    assert unknown in sections["local"]
    assert "Application/gateway" not in sections["local"]
    assert "- **flights: weight 10 → 20**" in sections["production"]


def test_of_an_environment_whose_own_folder_is_broken_nothing_is_called_unchanged(repository: Path) -> None:
    output = breaks_main(repository, "clusters/local/kustomization.yaml", "resources: [nothing.yaml]\n")
    assert output.startswith("Reaches local, production.\n")
    assert "- **unknown**: the base does not build, so what changes is unknown: clusters/local: " in output


def test_links_out_of_the_repository_stop_nothing(repository: Path) -> None:
    for name in ("elsewhere", "clusters/local/elsewhere"):
        (repository / name).symlink_to("/srv/data")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "links")
    edit(repository / FOLDER / "canary.yaml", "setWeight: 10\n", "setWeight: 20\n")
    assert "- **flights: weight 10 → 20**" in said(repository)["production"]
    assert first_line(repository) == "Reaches production."
