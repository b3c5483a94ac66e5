"""A model with fields of every type, trained, served by the real server and scored: the same answers everywhere."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import redis

from bundles import Bundle, Keys, logged_rows, sign
from parcels import ROWS
from parcels import parcels as parcels
from plumbline.core.release import read_release
from plumbline.core.schema import ModelSchema
from plumbline.scoring.files import score_files
from plumbline.scoring.scorer import Scorer
from plumbline.serving.http.v2 import datatype


def test_the_server_and_batch_scoring_answer_a_model_of_every_type_alike(
    parcels: Any, serve: Callable[..., Any], keys: Keys, tmp_path: Path, redis_url: str
) -> None:
    schema = ModelSchema.model_validate_json((parcels.bundle / "schema.json").read_text())
    sign(parcels.bundle, keys)
    bundle = Bundle(parcels.bundle, schema, keys, threshold=0.5)
    held = pd.read_parquet(parcels.evaluation / "holdout.parquet")[[field.name for field in schema.fields]]
    sent = ROWS + json.loads(held.assign(packed=held["packed"].map(pd.Timestamp.isoformat)).to_json(orient="records"))
    inputs = [
        {
            "name": field.name, "datatype": datatype(field), "shape": [len(sent)],
            "data": [json.dumps(value) if isinstance(value := row.get(field.name), list) else value for row in sent],
        }
        for field in schema.fields
    ]  # fmt: skip
    with redis.Redis.from_url(redis_url) as store:
        with serve(bundle, SERVING_REDIS_URL=redis_url) as server:
            answer = server.client.post("/v1/predict/batch", json={"rows": sent})
            tensors = server.client.post("/v2/models/parcels/infer", json={"inputs": inputs})
            refused = server.client.post("/v1/predict", json={"features": ROWS[0] | {"asked": "2024-07-01T08:30"}})
            server.until(lambda: store.xlen("predictions") >= 2)
        logged = [json.loads(fields[b"event"]) for _, fields in store.xrange("predictions")]
    assert answer.status_code == tensors.status_code == 200, answer.text + tensors.text
    assert refused.status_code == 422
    assert (
        "features.asked: is '2024-07-01T08:30', expected a moment with its offset from UTC" in refused.json()["detail"]
    )
    served = [list(item["probabilities"].values()) for item in answer.json()["predictions"]]
    found = {item["name"]: item["data"] for item in tensors.json()["outputs"]}
    np.testing.assert_array_equal(np.reshape(found["probabilities"], (-1, 2)), served)
    for event in logged:
        assert logged_rows(event) == [{name: value for name, value in row.items() if value is not None} for row in sent]
    # As a person has them: moments as datetimes, lists as lists.
    own = pd.DataFrame(ROWS)
    rows = pd.concat([own.assign(packed=pd.to_datetime(own["packed"], utc=True, format="ISO8601")), held])
    (tmp_path / "rows").mkdir()
    rows.to_parquet(tmp_path / "rows" / "0.parquet", index=False)
    release = bundle.release(tmp_path / "scored.yaml")
    with Scorer.fetch(read_release(release), release, keys.public) as scorer:
        assert dict(score_files(scorer, f"{tmp_path}/rows", f"{tmp_path}/out", 0, 1)) == {"0.parquet": len(sent)}
    scored = pd.read_parquet(next((tmp_path / "out").rglob("*.parquet")))
    expected = np.array(served, dtype=np.float32)
    np.testing.assert_array_equal(scored[["probability_no", "probability_yes"]].to_numpy(), expected)
    assert list(scored["label"]) == [item["label"] for item in answer.json()["predictions"]]
