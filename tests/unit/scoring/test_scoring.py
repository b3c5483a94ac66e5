"""Files of rows answered by a released model, one file for each, in any number of parts."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import bundles
from plumbline.core.schema import ModelSchema
from plumbline.scoring.cli import app

ROWS = pd.DataFrame(
    {
        "flight": [f"F{number}" for number in range(40)],
        "distance": np.linspace(100, 5000, 40),
        "hour": [number % 24 for number in range(40)],
        "carrier": ["AA", "DL", "UA", "ZZ"] * 10,
        "origin": ["EWR", None] * 20,
    }
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return bundles.make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def store(tmp_path):
    """Four files of ten rows."""
    (tmp_path / "rows").mkdir()
    for number in range(4):
        ROWS[number * 10 : number * 10 + 10].to_parquet(tmp_path / "rows" / f"{number}.parquet", index=False)
    return tmp_path


def call(store, bundle, *more):
    return ask(store, bundle.release(store / "release.yaml"), bundle.keys, *more)


def ask(store, release, keys, *more):
    options = ["--release", release, "--rows", store / "rows", "--out", store / "scores", "--public-key", keys.public]
    return CliRunner().invoke(app, [str(option) for option in (*options, *more)])


def answers(store, bundle):
    folder = store / "scores" / bundle.digest.removeprefix("sha256:")[:12]
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.iterdir())], ignore_index=True)


def test_parts_share_the_files_and_a_file_is_answered_once(store, keys):
    bundle = bundles.make_bundle(store / "bundle", keys)
    assert call(store, bundle, "--part", 1, "--parts", 3).output.splitlines() == [
        "1.parquet: 10 rows",
        "1 files answered",
    ]
    assert call(store, bundle, "--part", 0, "--parts", 3).output.splitlines()[-1] == "2 files answered"
    (store / "scores").joinpath(bundle.digest.removeprefix("sha256:")[:12], "0.parquet").unlink()
    assert json.loads(call(store, bundle, "--part", 0, "--parts", 3, "--json").stdout) == {"0.parquet": 10}
    assert call(store, bundle).output == "2.parquet: 10 rows\n1 files answered\n"
    assert call(store, bundle).output == "0 files answered\n"
    assert len(answers(store, bundle)) == 40


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows.drop(columns="hour"), "3.parquet: the columns hour are missing; found flight, distance"),
        (
            lambda rows: rows.assign(hour=[None] * 10),
            "3.parquet: column hour, row 0: found nothing, expected an integer from 0 to 23",
        ),
    ],
)
def test_rows_that_can_not_be_answered_are_named(store, keys, spoil, said):
    bundle = bundles.make_bundle(store / "bundle", keys)
    spoil(ROWS[:10]).to_parquet(store / "rows" / "3.parquet", index=False)
    result = call(store, bundle)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize("policy", ["answer", "answer-and-say", "refuse"])
def test_a_view_that_the_rows_do_not_have_is_missing_as_it_is_for_the_server(store, keys, policy):
    plain = bundles.schema_of("binary", views=True)
    views = (plain.views[0].model_copy(update={"when_missing": policy}),)
    schema = ModelSchema.model_validate(plain.model_dump() | {"views": views})
    bundle = bundles.make_bundle(store / "bundle", keys, schema=schema)
    ROWS[30:].assign(wind=np.array([np.nan, *[1.0] * 9])).to_parquet(store / "rows" / "3.parquet", index=False)
    result = call(store, bundle)
    if policy == "refuse":
        assert result.exit_code == 2
        assert "0.parquet: the view weather is missing, and the model does not answer without it" in result.output
        assert call(store, bundle, "--part", 3, "--parts", 4).exit_code == 0
    else:
        said = answers(store, bundle).get("missing_views")
        assert (said is None) is (policy == "answer")
        if said is not None:
            assert [*said[:30].unique(), *said[30:].isna().unique()] == ["weather", True]


def test_a_tampered_model_answers_nothing(store, keys):
    bundle = bundles.make_bundle(store / "bundle", keys)
    digest = bundle.digest
    (bundle.folder / "model.onnx").write_bytes((bundle.folder / "model.onnx").read_bytes() + b"x")
    release = bundle.release(store / "release.yaml", digest=digest)
    result = ask(store, release, keys)
    assert result.exit_code == 10
    assert "the release names" in result.output
    assert not (store / "scores").exists()


def test_a_part_that_does_not_exist_is_refused(store, keys):
    bundle = bundles.make_bundle(store / "bundle", keys)
    assert "expected 0 to 1" in call(store, bundle, "--part", 2, "--parts", 2).output
