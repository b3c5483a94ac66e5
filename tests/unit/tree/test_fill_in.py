"""What only an adopter can fill in is found by its look, with its place, and nothing else is."""

from pathlib import Path

import pytest

from plumbline.core.errors import Misuse
from plumbline.tree.bootstrap import bootstrap, is_kustomization
from plumbline.tree.fill_in import to_fill_in

ZEROS = f"sha256:{64 * '0'}"


def found(tmp_path: Path, text: str, name: str = "services.env") -> list[str]:
    file = tmp_path / "clusters/live/services" / name
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return [str(problem) for problem in to_fill_in(tmp_path, "live")]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (f"digest: {ZEROS}", ZEROS),
        ("registry: 000000000000.dkr.ecr.eu-west-3.amazonaws.com/ml", "000000000000"),
        ("role: arn:aws:iam::000000000000:role/x", "000000000000"),
        ("PGHOST=postgresql.invalid", "postgresql.invalid"),
        ("REDIS_ADDRESS=redis.invalid:6379", "redis.invalid"),
    ],
)
def test_what_can_be_nobodys_is_named_with_file_and_line(tmp_path: Path, line: str, what: str) -> None:
    (said,) = found(tmp_path, f"# Where they are.\n{line}\n", "values.yaml")
    assert said.startswith(f"clusters/live/services/values.yaml:2: to fill in: {what} is ")


@pytest.mark.parametrize(
    "line",
    [
        f"digest: sha256:{63 * '0'}1",
        "digest: sha256:" + "1" + 63 * "0",
        "account: 123456789012",
        "PGHOST=db.invalid.example",
        "# a name such as postgresql.invalid is still to be filled in",
        "number: 1000000000000",
    ],
)
def test_what_is_somebodys_is_not(tmp_path: Path, line: str) -> None:
    assert found(tmp_path, f"{line}\n") == []


def test_an_environment_that_is_not_filled_in_is_not_bootstrapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is asked of a cluster before that.
    monkeypatch.setenv("KUBECTL", str(tmp_path / "absent"))
    found(tmp_path, f"PGHOST=db.invalid\nimage: {ZEROS}\n")
    (tmp_path / "clusters/live/environment.yaml").write_text("data: {}\n")
    with pytest.raises(Misuse) as error:
        bootstrap(tmp_path, "live", None, 1)
    assert str(error.value).splitlines()[0] == "2 to fill in before this environment can run:"
    assert "clusters/live/services/services.env:1: to fill in: db.invalid" in str(error.value)


@pytest.mark.parametrize(
    ("source", "kustomize"),
    [
        ({"repoURL": "https://git/their.git", "path": "manifests", "kustomize": {}}, True),
        ({"repoURL": "https://git/their.git", "path": "config/default"}, True),
        ({"repoURL": "https://git/their.git", "path": "charts/base", "helm": {"releaseName": "base"}}, False),
        ({"repoURL": "https://charts", "chart": "base"}, False),
        ({"repoURL": "https://git/ours.git", "path": "clusters/live"}, False),
    ],
)
def test_a_chart_in_git_is_not_taken_for_kustomize(source: dict[str, str], kustomize: bool) -> None:
    assert is_kustomization(source, "https://git/ours.git") == kustomize
