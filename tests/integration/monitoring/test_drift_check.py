"""From the log in PostgreSQL to the verdict that a workflow branches on."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from plumbline.core.schema import ModelSchema, Output, SchemaField
from plumbline.monitoring.cli import app
from plumbline.monitoring.drift.data import from_log
from plumbline.monitoring.log.store import Store
from plumbline.monitoring.policy import Drift

SCHEMA = ModelSchema(
    model="flights",
    fields=(
        SchemaField(name="distance", type="number", description="How far", example=1000.0),
        SchemaField(name="wind", type="number", description="Wind speed", example=10.0),
        SchemaField(
            name="carrier", type="category", description="Who", example="UA", vocabulary=("B6", "UA"), required=False
        ),
    ),
    output=Output(task="binary", name="late", description="Arrives late", labels=("on time", "late")),
)
POLICY = "apiVersion: plumbline.dev/v1\nkind: Drift\nmodel: flights\nsample: 400\n"


def rows(seed: int, n: int, *, shift: float = 0.0, flipped: bool = False) -> pd.DataFrame:
    """Flights with a model that is right about them, unless the world has turned round."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"distance": rng.normal(1000, 200, n) + 200 * shift, "wind": rng.exponential(10, n)})
    table["carrier"] = rng.choice(np.array(["UA", "B6", None]), n, p=[0.6, 0.3, 0.1])
    table["native_on time"] = 1 - (late := rng.beta(2, 6, n))
    table["native_late"] = late
    truth = rng.random(n) < (1 - late if flipped else late)
    table["truth"] = np.where(truth, "late", "on time")
    table["slice_carrier"] = table["carrier"]
    return table


@pytest.fixture
def holdout(tmp_path: Path) -> Path:
    rows(0, 3000).to_parquet(tmp_path / "holdout.parquet")
    (tmp_path / "policies/drift").mkdir(parents=True)
    (tmp_path / "policies/drift/flights.yaml").write_text(POLICY)
    return tmp_path / "holdout.parquet"


def answer(
    log: Any, table: pd.DataFrame, *, labelled: bool = True, at: datetime | None = None, version: str = "v1.0.0"
) -> None:
    for row in table.astype("object").where(table.notna(), None).to_dict("records"):
        late = float(row["native_late"])
        output = {"label": "late" if late > 0.5 else "on time", "probability": max(late, 1 - late),
                  "probabilities": {"on time": 1 - late, "late": late}}  # fmt: skip
        features = {name: row[name] for name in ("distance", "wind", "carrier")}
        identifier = log.predict(rows=[features], outputs=[output], at=at, version=version)
        if labelled:
            log.label(identifier, row["truth"])
    log.consume()


def check(log: Any, folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    environment = {"MONITORING_REDIS_URL": log.redis_url, "MONITORING_DATABASE_URL": log.dsn}
    place = ["--out", str(folder / "out"), "--policies", str(folder / "policies")]
    done = CliRunner().invoke(app, ["drift", "--model", "flights", *place, *arguments], env=environment)
    assert done.exit_code == code, done.output
    found: dict[str, Any] = json.loads((folder / "out/drift.json").read_text())
    assert (folder / "out/verdict").read_text() == found["verdict"] + "\n"
    assert done.stdout.startswith(found["verdict"] + "\n  covariate: ")
    return found


def test_no_shift_then_a_planted_one(log: Any, holdout: Path) -> None:
    reference = ["--reference", str(holdout), "--exit-code"]
    answer(log, rows(1, 500), at=datetime.now(UTC) - timedelta(hours=30))
    found = check(log, holdout.parent, *reference, "--hours", "48")
    assert set(found["kinds"].values()) == {"none"}
    assert (found["verdict"], found["rows"], found["labelled"]) == ("none", 500, 500)

    answer(log, rows(2, 500, shift=1.0))
    found = check(log, holdout.parent, *reference, code=10)
    # A classifier may see by itself that a column has moved.
    assert {kind for kind, verdict in found["kinds"].items() if verdict == "drift"} - {"joint"} == {"covariate"}
    assert [item["column"] for item in found["columns"] if item["drifted"]] == ["distance"]

    page = (holdout.parent / "out/index.html").read_text()
    assert '<tr class="drift">\n    <td>distance</td>' in page
    assert "plotly" in (holdout.parent / "out/evidently.html").read_text().lower()
    shown = log.quality()
    marks = {kind: shown("monitoring_drift_found", model="flights", kind=kind) for kind in found["kinds"]}
    assert marks == {kind: float(verdict == "drift") for kind, verdict in found["kinds"].items()}
    for item in found["columns"]:
        labels = {"model": "flights", "column": item["column"], "method": item["method"]}
        assert shown("monitoring_drift_effect", **labels) == item["value"]
        assert shown("monitoring_drift_limit", **labels) == item["threshold"]
    until = datetime.fromisoformat(found["until"]).timestamp()
    assert shown("monitoring_drift_checked_timestamp_seconds", model="flights") == until
    assert shown("monitoring_loss_mean", model="flights", data="current") == found["concept"]["current_loss"]


def test_inputs_look_the_same_and_the_world_has_changed(log: Any, holdout: Path) -> None:
    answer(log, rows(3, 600, flipped=True))
    found = check(log, holdout.parent, "--reference", str(holdout), "--exit-code", code=10)
    assert {kind for kind, verdict in found["kinds"].items() if verdict == "drift"} == {"concept"}
    excess = found["concept"]["excess"]
    assert excess["current"] - excess["reference"] > excess["limit"]


def test_little_traffic_and_missing_labels_are_inconclusive(log: Any, holdout: Path) -> None:
    answer(log, rows(4, 399), labelled=False)
    found = check(log, holdout.parent, "--reference", str(holdout), "--exit-code", code=11)
    assert found["reason"] == "the log has 399 rows, the policy compares 400"
    assert log.quality()("monitoring_drift_found", model="flights", kind="covariate") is None
    assert set(found["kinds"].values()) == {"inconclusive"}
    answer(log, rows(5, 1), labelled=False)
    found = check(log, holdout.parent, "--reference", str(holdout))
    assert [kind for kind, verdict in found["kinds"].items() if verdict != "none"] == ["concept"]
    assert (found["kinds"]["concept"], found["verdict"]) == ("inconclusive", "none")


def test_a_window_without_rows_and_labels_before_predictions_never_pass(log: Any, holdout: Path) -> None:
    arguments = ["--reference", str(holdout), "--exit-code"]
    found = check(log, holdout.parent, *arguments, code=11)
    assert (found["verdict"], found["reason"]) == ("inconclusive", "the log has 0 rows, the policy compares 400")
    # The labels come now, of answers that say they are made in an hour.
    answer(log, rows(3, 420))
    with Store(log.dsn).connection() as connection:
        connection.execute("UPDATE monitoring.predictions SET at = at + interval '1 hour'")
    found = check(log, holdout.parent, *arguments, code=11)
    assert found["kinds"]["covariate"] == "none"
    assert "420 labels are older than their answers" in found["reason"]


def test_the_reference_of_a_run(log: Any, holdout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{holdout.parent}/mlflow.db")
    experiment = mlflow.create_experiment("flights/training", artifact_location=str(holdout.parent / "artifacts"))
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_artifact(str(holdout), "evaluation")
        mlflow.log_text(SCHEMA.to_json(), "bundle/schema.json")
    answer(log, rows(6, 450))
    # The next version answers the other way round: a false alarm where it is counted among this one's.
    answer(log, rows(8, 450, flipped=True).assign(native_late=0.99), version="v1.0.1")
    reference = ["--run", run.info.run_id]
    assert "is not registered as flights: say by --version" in refusal(log, holdout, *reference)
    found = check(log, holdout.parent, *reference, "--version", "v1.0.0")
    assert (found["verdict"], found["rows"]) == ("none", 450)

    client = mlflow.MlflowClient()
    client.create_registered_model("flights")
    client.create_model_version("flights", "bundle", run.info.run_id, tags={"semver": "v1.0.0"}, await_creation_for=0)
    found = check(log, holdout.parent, *reference)
    assert (found["verdict"], found["rows"], found["version"]) == ("none", 450, "v1.0.0")
    assert "is v1.0.0, --version says v1.0.1" in refusal(log, holdout, *reference, "--version", "v1.0.1")

    answer(log, rows(12, 1).assign(wind=None))
    expected = "the log of flights v1.0.0: column wind, row "
    assert expected in refusal(log, holdout, *reference)


def test_one_reference_is_not_held_against_two_versions(log: Any, holdout: Path) -> None:
    reference = ["--reference", str(holdout)]
    answer(log, rows(9, 410))
    assert check(log, holdout.parent, *reference)["version"] == "v1.0.0"
    answer(log, rows(10, 410), version="v1.0.1")
    said = refusal(log, holdout, *reference)
    assert "v1.0.0 (410 rows) and v1.0.1 (410 rows) answered" in said
    found = check(log, holdout.parent, *reference, "--version", "v1.0.1")
    assert (found["version"], found["rows"]) == ("v1.0.1", 410)


def refusal(log: Any, holdout: Path, *arguments: str) -> str:
    """What a check says that is used wrongly."""
    done = CliRunner().invoke(
        app, ["drift", "--model", "flights", "--out", str(holdout.parent / "out"), *arguments],
        env={"MONITORING_DATABASE_URL": log.dsn},
    )  # fmt: skip
    assert done.exit_code == 2, done.output
    return done.stderr


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (
            "columns:\n  month: {ignore: true}\n",
            "columns.month: unknown column 'month'; expected one of distance, wind",
        ),
        ("columns:\n  predicted label: {ignore: true}\n", "columns.predicted label: unknown column 'predicted label'"),
        (
            "columns:\n  carrier: {method: wasserstein}\n",
            "columns.carrier.method: wasserstein is a distance of numbers",
        ),
        ("quality: {metric: rmse, worse: 1}\n", "quality.metric: unknown metric 'rmse' of a binary model; expected"),
        ("quality: {metric: cost, worse: 1}\n", "quality.costs: missing; the metric cost needs"),
        ("quality: {metric: f1}\n", "quality.worse: Field required"),
    ],
)
def test_a_name_in_the_policy_that_is_none_is_refused_with_those_that_are(
    log: Any, holdout: Path, policy: str, said: str
) -> None:
    path = holdout.parent / "policies/drift/flights.yaml"
    path.write_text(POLICY + policy)
    message = refusal(log, holdout, "--reference", str(holdout), "--policies", str(path.parents[1]))
    assert f"{path}: {said}" in message


def test_a_reference_or_choice_that_is_wrong_says_so(log: Any, holdout: Path) -> None:
    from typer.testing import CliRunner

    from plumbline.monitoring.cli import app

    for arguments, message in [
        ([], "give either --reference or --run"),
        (["--reference", str(holdout.parent / "none.parquet")], "cannot be read as parquet"),
    ]:
        result = CliRunner().invoke(app, ["drift", "--model", "flights", "--out", str(holdout.parent), *arguments])
        assert result.exit_code == 2
        assert message in result.output


def test_sampling_in_the_database_is_fixed_and_apart_from_time(log: Any, holdout: Path) -> None:
    answer(log, rows(7, 300))
    store = Store(log.dsn)
    log.stores.append(store)
    now = datetime.now(UTC)
    with store.connection() as connection:
        window = (now - timedelta(hours=1), now + timedelta(hours=1), None)
        one, again, other = (
            from_log(connection, Drift(model="flights", sample=100, seed=seed), *window).frame for seed in (0, 0, 1)
        )
    pd.testing.assert_frame_equal(one, again)
    assert not one.equals(other)
