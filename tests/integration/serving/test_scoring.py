"""Batch scoring says what the server says: the same rows go to both, those that are refused too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from plumbline.scoring.cli import app

ROWS = pd.DataFrame(
    {
        "flight": [f"F{number}" for number in range(20)],
        "distance": np.linspace(100, 5000, 20),
        "hour": [number % 24 for number in range(20)],
        "carrier": ["AA", "DL", "UA", "ZZ"] * 5,
        "origin": ["EWR", None] * 10,
    }
)


FULL = ROWS.assign(carrier="UA", origin="JFK", wind=1.5)


def score(folder: Path, bundle: Any, rows: pd.DataFrame, *, index: bool = False) -> Result:
    (folder / "rows").mkdir()
    rows.to_parquet(folder / "rows" / "0.parquet", index=index)
    release = bundle.release(folder / "release.yaml")
    options = [
        "--release",
        release,
        "--rows",
        folder / "rows",
        "--out",
        folder / "out",
        "--public-key",
        bundle.keys.public,
    ]
    return CliRunner().invoke(app, [str(option) for option in options])


def requests(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as a caller sends them: what is missing is left out, what is no field stays at home."""
    records = rows.drop(columns="flight").to_dict("records")
    return [{str(name): value for name, value in row.items() if pd.notna(value)} for row in records]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression", "mixing"])
def test_answers_are_the_servers_bit_by_bit(
    serve: Callable[..., Any], bundle_of: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    bundle = bundle_of(kind)
    rows = FULL if kind == "mixing" else ROWS
    with serve(bundle) as server:
        response = server.client.post("/v1/predict/batch", json={"rows": requests(rows)})
    served = response.json()["predictions"]
    result = score(tmp_path, bundle, rows)
    assert result.exit_code == 0, result.output
    scored = pd.read_parquet(next((tmp_path / "out").rglob("*.parquet")))
    assert list(scored["flight"]) == list(ROWS["flight"])
    assert set(scored["version"]) == {response.json()["version"]}
    labels = bundle.schema.output.labels
    if labels:
        assert list(scored["label"]) == [answer["label"] for answer in served]
    numbers = [list(answer["probabilities"].values()) if labels else [answer["value"]] for answer in served]
    columns = [f"probability_{label}" for label in labels] or ["value"]
    np.testing.assert_array_equal(scored[columns].to_numpy(), np.array(numbers, dtype=np.float32))


@pytest.mark.parametrize(
    ("field", "value"),
    [("hour", 24), ("hour", 1.5), ("hour", True), ("hour", "7"), ("distance", -1), ("carrier", 7), ("carrier", ""),
     ("origin", "x" * 257), ("wind", "calm"), ("wind", 3.5e38)],
)  # fmt: skip
def test_what_the_server_refuses_is_not_scored(
    serve: Callable[..., Any], bundle_of: Callable[..., Any], tmp_path: Path, field: str, value: Any
) -> None:
    bundle = bundle_of("binary")
    rows = ROWS.assign(**{field: [value] * len(ROWS)})
    with serve(bundle) as server:
        response = server.client.post("/v1/predict/batch", json={"rows": requests(rows)})
    assert response.status_code == 422
    assert {error["field"] for error in response.json()["errors"]} == {f"rows.{row}.{field}" for row in range(20)}
    result = score(tmp_path, bundle, rows)
    assert result.exit_code == 2
    assert f"0.parquet: column {field}, row 0: found " in result.output
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_a_row_without_a_finite_answer_is_no_answer(
    serve: Callable[..., Any], bundle_of: Callable[..., Any], tmp_path: Path
) -> None:
    bundle = bundle_of("mixing")
    rows = FULL.assign(wind=[*[1.5] * 19, np.nan])
    with serve(bundle) as server:
        response = server.client.post("/v1/predict", json={"features": requests(rows)[-1]})
    assert response.status_code == 422
    assert "no finite answer" in response.json()["detail"]
    result = score(tmp_path, bundle, rows)
    assert result.exit_code == 2
    assert "0.parquet: row 19: the model has no finite answer, as in 1 of 20 rows" in result.output


@pytest.mark.parametrize(
    ("column", "said"),
    [("label", "one of the answers'"), ("version", "one of the answers'"), ("probability_late", "one of the answers'"),
     ("Wind", "the field is wind"), (" wind", "the field is wind")],
)  # fmt: skip
def test_a_column_is_neither_lost_nor_left_out_in_silence(
    bundle_of: Callable[..., Any], tmp_path: Path, column: str, said: str
) -> None:
    result = score(tmp_path, bundle_of("binary"), ROWS.assign(**{column: 1.5}))
    assert result.exit_code == 2
    assert "0.parquet: the column " in result.output
    assert said in result.output.replace("\n", " ")
    assert not list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.parametrize("names", [["flight"], ["flight", "hour"]])
def test_an_index_with_a_name_is_a_column(bundle_of: Callable[..., Any], tmp_path: Path, names: list[str]) -> None:
    bundle = bundle_of("binary")
    for folder, rows in (("plain", ROWS), ("indexed", ROWS.set_index(names))):
        (tmp_path / folder).mkdir()
        result = score(tmp_path / folder, bundle, rows, index=folder == "indexed")
        assert result.exit_code == 0, result.output
    plain, indexed = (pd.read_parquet(next((tmp_path / folder / "out").rglob("*.parquet"))) for folder in
                      ("plain", "indexed"))  # fmt: skip
    pd.testing.assert_frame_equal(plain, indexed)
