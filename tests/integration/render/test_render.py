"""Every folder that Argo CD syncs is built; what it would warn about or choke on is an error with the folder's name."""

from pathlib import Path

import asis
import pytest
import yaml
from typer.testing import CliRunner

from plumbline.tree.cli import app
from plumbline.tree.render.build import Loader, RenderError, environments, render, synced, without_release

ROOT = Path(__file__).parents[3]


def test_every_environment_renders() -> None:
    assert environments(ROOT)
    for environment in environments(ROOT):
        rendered = asis.rendered(environment)
        assert f"clusters/{environment}" in rendered
        assert set(rendered) == set(synced(ROOT, environment))
        assert all(rendered.values())


def test_a_component_is_no_build() -> None:
    assert "clusters/local/model-server" not in synced(ROOT, "local")


def test_a_model_without_a_release_renders_with_one_that_shows_it(tree: Path) -> None:
    (tree / "clusters/staging/models/flights/release.yaml").unlink(missing_ok=True)
    assert "flights" in without_release(tree, "staging")
    objects = render(tree, "staging")["clusters/staging/models/flights"]
    rollout = next(item for item in objects if item["kind"] == "Rollout")
    assert rollout["metadata"]["labels"]["app.kubernetes.io/version"] == "v0.0.0"
    assert not (tree / "clusters/staging/models/flights/release.yaml").exists()


def test_a_warning_is_an_error_that_names_the_folder(tree: Path) -> None:
    file = tree / "clusters/local/models/flights/kustomization.yaml"
    file.write_text(file.read_text() + "commonLabels: {team: delays}\n")
    with pytest.raises(RenderError, match=r"^clusters/local/models/flights: .*commonLabels.*deprecated"):
        render(tree, "local")


def test_a_missing_file_is_named_without_the_place_of_the_copy(tree: Path) -> None:
    (tree / "clusters/local/models/flights/canary.yaml").unlink()
    with pytest.raises(RenderError, match=r"^clusters/local/models/flights: .*canary\.yaml") as refused:
        render(tree, "local")
    assert "render-" not in str(refused.value)


def test_the_command_writes_a_file_for_each_folder(tree: Path) -> None:
    done = CliRunner().invoke(app, ["render", "--root", str(tree), "--out", str(tree / "out")])
    assert done.exit_code == 0, done.output
    platform = list(yaml.load_all((tree / "out/production/platform.yaml").read_text(), Loader))
    assert any(item["kind"] == "AppProject" for item in platform)
    assert (tree / "out/production/models/flights.yaml").exists()


def test_the_command_says_what_does_not_build_and_fails(tree: Path) -> None:
    (tree / "kustomize/model-server/rollout.yaml").write_text("kind: [")
    done = CliRunner().invoke(app, ["render", "--root", str(tree), "--out", str(tree / "out")])
    assert done.exit_code == 2
    assert "clusters/local/models/" in done.output
