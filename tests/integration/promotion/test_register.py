"""Registration: numbered by rule, resumable, and nothing that is odd gets in."""

import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from plumbline.core.artifact import ArtifactError, verify_artifact
from plumbline.core.dsse import seal
from plumbline.core.errors import Accident, Refused
from plumbline.core.stated import facts_of, statement_of
from plumbline.promotion.gate.judged import judge
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.lifecycle import Lifecycle
from plumbline.promotion.registry.register import register
from plumbline.promotion.registry.signing import generate_keys
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings
from plumbline.training.report import Report

from .conftest import SCHEMA, Recipe, Remote

Log = Callable[[Recipe], str]
Make = Callable[..., Version]


def test_a_version_carries_what_governance_needs(
    registered: Make, registry: Registry, client: MlflowClient, settings: Settings, model: str, tmp_path: Path
) -> None:
    version = registered()
    assert (str(version.semver), version.lifecycle) == ("v1.0.0", Lifecycle.NONE)
    assert float(version.tags["parity.max_abs_difference"]) < 1e-5
    assert version.tags["parity.rows"] == "3000", "the whole holdout"
    assert version.tags["code.commit"] == "c" * 40
    assert version.tags["data.digest"] == "sha256:" + "d" * 64
    bundle = registry.download(version.run, "bundle", tmp_path)
    verify_artifact(bundle, version.digest, settings.public_pem())
    with pytest.raises(ArtifactError, match="the release names"):
        verify_artifact(bundle, "sha256:" + "0" * 64, settings.public_pem())
    card = registry.download(version.run, "card", tmp_path)
    text, page = (card / "card.md").read_text(), (card / "card.html").read_text()
    for said in ("not approved yet", "Intended use", "personal_data: False", "roc_auc", "| UA |", version.digest):
        assert said in text
    assert "<script>" not in page, "what a card says is text, not markup"
    assert "<table>" in page
    assert "data:image/png;base64," in page
    first = text.split("| | |")[0]
    assert "On 3,000 rows that it did not learn from, its log_loss is " in first, "the approver's sentence comes first"
    found = registry.search(
        f"name = '{model}' and tags.`data.digest` = 'sha256:{'d' * 64}' and tags.lifecycle = 'None'"
    )
    assert [item.number for item in found] == [version.number]


def test_the_card_says_how_the_threshold_was_chosen_and_what_mistakes_cost(
    registered: Make, registry: Registry, tmp_path: Path
) -> None:
    declared = {"threshold_rule": "cost", "costs": {"late": {"on_time": 10.0}, "on_time": {"late": 0.5}}}
    version = registered(report=lambda report: report.model_copy(update=declared))
    text = (registry.download(version.run, "card", tmp_path) / "card.md").read_text()
    assert "| threshold | late from a probability of 0.5: the best cost on validation |" in text
    assert "late answered as on_time: 10; on_time answered as late: 0.5 |" in text


def test_what_was_signed_of_a_version_stands_beside_its_bytes(
    registered: Make, registry: Registry, settings: Settings, tmp_path: Path
) -> None:
    """For servers, which know no MLflow. A registration of before has it put there; what is there is not replaced."""
    version = registered()
    place = Path(urlsplit(version.released).path) / "v1.0.0.json"
    facts = facts_of(place.read_bytes(), settings.public_pem())
    assert (facts["digest"], facts["threshold"]) == (version.digest, version.tags["threshold"])
    signed = place.read_bytes()
    place.unlink()
    assert register(registry, settings, version.run).version == version
    assert place.read_bytes() == signed
    private, _ = generate_keys(tmp_path / "foreign")
    for other, key, said in (
        ({"threshold": "0.01"}, settings.signing_path(), "states another threshold, and is never replaced"),
        ({}, private, "was not made with a key that is trusted here"),
    ):
        place.unlink()
        place.write_text(json.dumps(seal(statement_of(facts | other), key.read_bytes())))
        with pytest.raises(Refused, match=rf"v1\.0\.0\.json {said}"):
            register(registry, settings, version.run)


def test_numbers_follow_the_rule(registered: Make) -> None:
    described = json.loads(json.dumps(SCHEMA))
    described["fields"][0]["description"] = "Speed of the wind."
    versions = [
        registered(),
        registered(tags={"data.digest": "sha256:" + "e" * 64}, seed=1),
        registered(params={"depth": "5"}, seed=2),
        registered(params={"depth": "5"}, schema=described),
        registered(params={"depth": "5"}, schema=described, tags={"code.commit": "b" * 40}, seed=3),
    ]
    assert [str(version.semver) for version in versions] == ["v1.0.0", "v1.0.1", "v1.1.0", "v1.2.0", "v1.3.0"]
    assert versions[0].digest != versions[2].digest
    described["output"]["unit"] = "share"
    assert str(registered(schema=described).semver) == "v2.0.0"


def test_the_same_run_is_the_same_version(
    log_run: Log, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    run = log_run(Recipe(model))
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: register(registry, settings, run).version, range(4)))
    assert {(version.number, version.digest) for version in done} == {(done[0].number, done[0].digest)}
    assert register(registry, settings, run).parity is None, "done before"
    assert len(registry.versions(model)) == 1


def test_what_was_judged_is_what_is_signed(
    log_run: Log, registry: Registry, settings: Settings, client: MlflowClient, model: str, tmp_path: Path
) -> None:
    """The judge has no key, and registration opens neither graph nor rows: it goes by digests."""
    run, other = log_run(Recipe(model)), log_run(Recipe(model, seed=1))
    keyless = settings.model_copy(update={"signing_key": None})
    found = judge(registry, keyless, run)
    with pytest.raises(Refused, match=f"what was judged is run {run}, not {other}"):
        register(registry, settings, other, found)
    with pytest.raises(Refused, match="not those that were judged"):
        register(registry, settings, other, found.model_copy(update={"run": other}))
    client.set_tag(run, "code.commit", "1" * 40)
    with pytest.raises(Refused, match="not those that were judged"):
        register(registry, settings, run, found)
    client.set_tag(run, "code.commit", found.lineage["code.commit"])
    (tmp_path / "card.yaml").write_text("title: another\n")
    client.log_artifact(other, str(tmp_path / "card.yaml"), "evaluation")
    with pytest.raises(Refused, match="not those that were judged"):
        register(registry, settings, other, judge(registry, keyless, run).model_copy(update={"run": other}))
    done = register(registry, settings, run, found)
    assert (done.version.digest, done.version.tags["weights.digest"]) == (found.bundle, found.weights)
    assert done.version.tags["holdout.data"] == "", "no folder defines a toy"


class Dying(Registry):
    """A registry whose process dies before its n-th write."""

    def __init__(self, address: str, writes: int) -> None:
        super().__init__(address)
        self.left = writes

    def _write(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def upload(self, *arguments: Any) -> None:
        self._write()
        super().upload(*arguments)

    def create(self, *arguments: Any) -> Version:
        self._write()
        return super().create(*arguments)

    def tag(self, *arguments: Any) -> None:
        self._write()
        super().tag(*arguments)


def test_a_retraining_with_the_same_bytes_is_no_new_version(
    log_run: Callable[[Recipe], str], registry: Registry, settings: Settings, model: str, client: MlflowClient
) -> None:
    first = register(registry, settings, log_run(Recipe(model))).version
    runs = [log_run(Recipe(model, tags={"data.digest": "sha256:" + letter * 64})) for letter in "ef"]
    for run in (*runs, runs[0]):
        done = register(registry, settings, run)
        assert (done.same_bytes, done.version.number) == (True, first.number)
        assert client.get_run(run).data.tags["semver"] == "v1.0.0"
    (only,) = registry.versions(model)
    assert only.runs == (first.run, *runs)
    assert str(register(registry, settings, log_run(Recipe(model, seed=1))).version.semver) == "v1.0.1"


def test_a_registration_that_died_is_no_version_and_is_resumed(
    log_run: Log, registry: Registry, settings: Settings, remote: Remote, model: str, address: str
) -> None:
    run = log_run(Recipe(model))
    for writes in range(4):  # it gets one write further each time
        with pytest.raises(KeyboardInterrupt):
            register(Dying(address, writes), settings, run)
        assert registry.search(f"name = '{model}'") == []
        with pytest.raises(Refused, match="has no version"):
            registry.find(model, "v1.0.0")
    assert str(register(registry, settings, run).version.semver) == "v1.0.0"
    assert len(registry.versions(model)) == 1


class Explode:
    """Runs when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("bundle/model.pkl", r"unexpected \['model.pkl'\]"),
        ("bundle/deep/model.onnx", r"unexpected \['deep/model.onnx'\]"),
        ("bundle/model.onnx", "not an ONNX file"),
        ("evaluation/holdout.parquet", "holdout.parquet: cannot be read"),
    ],
)
def test_a_pickle_is_never_opened(
    log_run: Log,
    registry: Registry,
    settings: Settings,
    remote: Remote,
    model: str,
    tmp_path: Path,
    place: str,
    said: str,
) -> None:
    marker = tmp_path / "executed"
    payload = pickle.dumps(Explode(marker))
    with pytest.raises(Refused, match=said):
        register(registry, settings, log_run(Recipe(model, files={place: payload})))
    assert not marker.exists()
    assert registry.versions(model) == []
    pickle.loads(payload)  # noqa: S301
    assert marker.exists(), "the payload works where it is opened"


def test_a_card_says_what_its_report_does_not(registered: Make, registry: Registry, model: str, tmp_path: Path) -> None:
    def without(report: Report) -> Report:
        kept = {name: figure for name, figure in report.metrics.items() if name != "log_loss"}
        return report.model_copy(update={"metrics": kept})

    text = (registry.download(registered(report=without).run, "card", tmp_path) / "card.md").read_text()
    assert "Its report does not compare its log_loss with a baseline's." in text


def test_two_runs_with_the_same_bytes_at_once_are_one_version(
    log_run: Log, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    def attempt(run: str) -> str:
        try:
            return str(register(registry, settings, run).version.semver)
        except Accident as error:
            return str(error)

    runs = [log_run(Recipe(model, tags={"data.digest": f"sha256:{index:064d}"})) for index in range(4)]
    with ThreadPoolExecutor(4) as pool:
        said = set(pool.map(attempt, runs))
    assert "v1.0.0" in said
    assert all("being registered: try again" in words for words in said - {"v1.0.0"})
    assert {attempt(run) for run in runs} == {"v1.0.0"}
    [version] = registry.versions(model)
    assert sorted(version.runs) == sorted(runs)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"native_shift": 0.01}, "parity: ONNX differs .* by up to 0.01"),
        ({"native_shift": float("nan")}, "parity: ONNX differs .* by up to nan"),
        ({"status": "RUNNING"}, "is RUNNING, expected FINISHED"),
        ({"tags": {"data.digest": ""}}, r"the tags \['data.digest'\] are missing"),
        ({"report": lambda report: report.model_copy(update={"model": "other"})}, "report.json: model is 'other'"),
        ({"report": lambda report: report.model_copy(update={"threshold": None})}, "threshold is None"),
        ({"files": {"evaluation/report.json": b"{}"}}, "report.json: "),
        ({"files": {"evaluation/card.yaml": b"- a"}}, "card.yaml: expected sections"),
        ({"files": {"evaluation/card.yaml": b"a: ["}}, "card.yaml: not readable"),
        ({"files": {"bundle/schema.json": b"{}"}}, "schema.json: not a model schema"),
        ({"files": {"bundle/model.sig": b"{}"}}, "a signature that is not ours"),
        ({"files": {"bundle/model.onnx": b"not a graph"}}, "model.onnx: "),
    ],
)
def test_what_is_odd_is_refused(
    log_run: Log, registry: Registry, settings: Settings, remote: Remote, model: str, recipe: dict[str, Any], said: str
) -> None:
    with pytest.raises(Refused, match=said):
        register(registry, settings, log_run(Recipe(model, **recipe)))
    assert registry.versions(model) == []


def test_a_run_without_parts_is_refused(
    log_run: Log, client: MlflowClient, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    experiment = client.create_experiment(f"{model}/empty")
    tags = {"model": model, "data.digest": "sha256:" + "d" * 64, "code.commit": "c" * 40}
    run = client.create_run(experiment, tags=tags).info.run_id
    client.set_terminated(run)
    with pytest.raises(Refused, match=r"bundle/: \['model.onnx', 'schema.json'\] missing"):
        register(registry, settings, run)
    with pytest.raises(Refused, match="not found"):
        register(registry, settings, "0" * 32)


def test_a_model_without_a_gate_is_not_registered(
    log_run: Log, registry: Registry, settings: Settings, remote: Remote
) -> None:
    with pytest.raises(Refused, match="policies/promotion/stray"):
        register(registry, settings, log_run(Recipe("stray")))


def test_a_foreign_key_pair_is_noticed(
    log_run: Log, registry: Registry, settings: Settings, remote: Remote, model: str, tmp_path: Path
) -> None:
    from plumbline.promotion.registry.signing import generate_keys

    other, _ = generate_keys(tmp_path / "other")
    with pytest.raises(Refused, match="are the two keys a pair"):
        register(registry, settings.model_copy(update={"signing_key": other}), log_run(Recipe(model)))


def test_native_torchscript_and_savedmodel_are_recorded_without_loading_them(
    log_run: Log,
    client: MlflowClient,
    registry: Registry,
    settings: Settings,
    remote: Remote,
    model: str,
    tmp_path: Path,
) -> None:
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    run = log_run(Recipe(model))
    for flavour in ("pytorch", "tensorflow"):
        logged = client.create_logged_model(client.get_run(run).info.experiment_id, name=flavour, source_run_id=run)
        folder = tmp_path / flavour
        folder.mkdir()
        Model(flavors={flavour: {"data": "data"}}).save(str(folder / "MLmodel"))
        (folder / "data").write_bytes(pickle.dumps(Explode(tmp_path / "executed")))
        client.log_model_artifacts(logged.model_id, str(folder))
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run, models=[LoggedModelOutput(logged.model_id, step=0)])
    version = register(registry, settings, run).version
    assert version.tags["flavours"] == "pytorch,tensorflow"
    assert not (tmp_path / "executed").exists()


def test_illegal_moves_are_refused(registered: Make, registry: Registry) -> None:
    version = registered()
    with pytest.raises(Refused, match="None → Production is not a legal move"):
        registry.move(version, Lifecycle.PRODUCTION)
    registry.move(version, Lifecycle.ARCHIVED)
    assert registry.find(version.model, "v1.0.0").lifecycle is Lifecycle.ARCHIVED


def test_tags_that_somebody_set_by_hand_do_not_pass(registered: Make, registry: Registry, client: MlflowClient) -> None:
    version = registered()
    client.set_model_version_tag(version.model, version.number, "lifecycle", "Live")
    with pytest.raises(Refused, match="set the tag lifecycle by hand"):
        _ = registry.find(version.model, "v1.0.0").lifecycle
    twin = client.create_model_version(version.model, version.source, version.run, tags=version.tags)
    with pytest.raises(Refused, match=rf"versions \['{version.number}', '{twin.version}'\] both carry"):
        registry.find(version.model, "v1.0.0")


def test_mlflow_down_is_inconclusive(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Accident, match="MLflow at http://"):
        register(Registry("http://127.0.0.1:9"), settings, "0" * 32)
