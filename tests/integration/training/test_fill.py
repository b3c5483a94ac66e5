"""The online store is filled from the sources that models declare, over TLS and with a password, as servers read it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
import redis
import services
from certificates import Authority

from plumbline.core.errors import Accident
from plumbline.features.offline import join_view
from plumbline.features.online import entity_key, newest_key, read
from plumbline.training.data import read_tables
from plumbline.training.materialise import fill
from plumbline.training.model import load

NOW = pd.Timestamp("2031-07-10T21:17:30Z")
THEN = pd.Timestamp("2013-07-10T21:17:30Z")
"""The same day and hour of the year whose weather the flights show."""
FOLDER = """
import pandas as pd
import pandera.pandas as pa
from plumbline.core.schema import ModelSchema, Output, SchemaField, View
from plumbline.training.model import ByShare, Model, Source

def number(name, **more):
    return SchemaField(name=name, type="number", description=name, example=1.0, **more)

def views(tables):
    return {{
        view: tables[view].assign(at=pd.to_datetime(tables[view]["at"], utc=True))
        for view in ("air", "sea") if view in tables
    }}

TABLE = {{"at": pa.Column(str), "place": pa.Column("float64")}}
MODEL = Model(
    schema=ModelSchema(
        model="{name}",
        fields=(number("place"), number("wind", required=False), number("wave", required=False)),
        output=Output(task="regression", name="y", description="y"),
        views=(
            View(name="air", entity=("place",), fields=("wind",), max_age_seconds=3600),
            View(name="sea", entity=("place",), fields=("wave",), max_age_seconds=3600),
        ),
    ),
    tables={{
        "air": pa.DataFrameSchema(TABLE | {{"wind": pa.Column("float64", pa.Check.in_range(0, 99), nullable=True)}}),
        "sea": pa.DataFrameSchema(TABLE | {{"wave": pa.Column("float64")}}),
    }},
    fetch=lambda folder: None,
    rows=lambda tables: pd.DataFrame(),
    views=views,
    sources={{"air": Source(tables={tables}, place="{place}"), "sea": {sea}}},
    split=ByShare(),
    cluster=None,
    baseline=lambda schema: None,
    candidate=lambda schema, params: None,
    defaults={{}},
    space=lambda trial: {{}},
)
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder of models of which each reads its air from a folder of the same name; writes one, and its air."""
    root = tmp_path / "models"

    def write(name, air, sea="None", tables=("air",)):
        source = tmp_path / name
        (root / name).mkdir(parents=True)
        source.mkdir()
        (source / "air.csv").write_text(air)
        place = source.as_uri()
        text = FOLDER.format(name=name, place=place, sea=sea.format(place=place), tables=tables)
        (root / name / "__init__.py").write_text(text)
        return source

    monkeypatch.setenv("TRAINING_MODELS", str(root))
    return write


def test_the_flights_are_given_the_weather_of_2013_as_if_it_were_of_now_by_tls_and_password(tmp_path, monkeypatch):
    authority, port = Authority(tmp_path), services.free_port()
    authority.issue(tmp_path / "server")
    keys = (tmp_path / "server" / "tls.crt", tmp_path / "server" / "tls.key")
    options = ["--port", "0", "--tls-port", port, "--tls-cert-file", keys[0], "--tls-key-file", keys[1],
               "--tls-auth-clients", "no", "--requirepass", "s3cret", "--save", "", "--dir", tmp_path]  # fmt: skip
    command = [services.program("redis-server", "apt-get install redis-server"), *map(str, options)]
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))  # as a managed service's is signed by one that all believe
    url = f"rediss://:s3cret@localhost:{port}/0"
    model = load("flights")
    (view,) = model.schema.views
    fields = {field.name: field for field in model.schema.fields}
    with services.process(command, ready=lambda: services.accepts(port), log=tmp_path / "redis.log"):
        with pytest.raises(redis.AuthenticationError):
            fill("flights", url.replace("s3cret", "wrong"), NOW)
        assert fill("flights", url, NOW) == {"weather": 3}
        model.fetch(tmp_path)
        history = model.views(read_tables(model, tmp_path, ["weather"]))["weather"]
        offline = join_view(pd.DataFrame({"at": THEN, "origin": ["EWR", "JFK", "LGA"]}), view, history)
        with redis.Redis.from_url(url) as client:
            for row in offline.to_dict("records"):
                known = read(fields, view, client.get(entity_key("flights", view, {"origin": row["origin"]})))
                assert known
                assert known.holds(view, NOW.timestamp())
                expected = np.array([row[name] for name in view.fields], dtype=float)
                np.testing.assert_array_equal(np.array(known.values, dtype=float), expected)


def test_a_source_is_held_against_its_schema_and_what_stands_in_the_store_stays(models, redis_url):
    source = models("boats", "at,place,wind\n2031-07-10T21:00Z,1,7.5\n2031-07-10T21:00Z,2,\n")
    assert fill("boats", redis_url, NOW) == {"air": 2}
    view = load("boats").schema.views[0]
    with redis.Redis.from_url(redis_url) as client:
        before = {key: client.get(key) for key in client.scan_iter("features:*")}
        assert before.keys() == {b"features:boats:air", b"features:boats:air:1", b"features:boats:air:2"}
        (source / "air.csv").write_text("at,place,wind\n2031-07-10T21:10Z,1,1048\n")
        with pytest.raises(
            Accident, match=r"boats, air: air.csv.* line 2, column wind: found 1048.0, expected in_range"
        ):
            fill("boats", redis_url, NOW)
        (source / "air.csv").unlink()
        with pytest.raises(Accident, match=r"the online store keeps what it has: boats, air: .*air.csv"):
            fill("boats", redis_url, NOW)
        assert {key: client.get(key) for key in before} == before
        # Nothing newer than the moment, and nothing too old.
        (source / "air.csv").write_text("at,place,wind\n2031-07-10T21:30Z,1,9\n2031-07-10T20:00Z,2,9\n")
        assert fill("boats", redis_url, NOW) == {"air": 0}
        assert client.get(newest_key("boats", view)) == before[b"features:boats:air"]


def test_a_source_of_two_views_is_read_once_and_in_pieces(models, redis_url, monkeypatch):
    opened = []

    class Pieces:
        """A file that nobody takes as a whole."""

        def __init__(self, place):
            self.file = fsspec.filesystem("file").open(place, "rb")
            opened.append(Path(place).name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def read(self, size):
            assert 0 < size <= 1 << 20
            return self.file.read(size)

    monkeypatch.setattr(fsspec, "open", Pieces)
    both = ("air", "sea")
    air = "at,place,wind\n2031-07-10T21:00Z,1,7.5\n"
    source = models("boats", air, sea=f'Source(tables={both}, place="{{place}}")', tables=both)
    (source / "sea.csv").write_text("at,place,wave\n2031-07-10T21:00Z,1,2.5\n")
    assert fill("boats", redis_url, NOW) == {"air": 1, "sea": 1}
    assert opened == ["air.csv", "sea.csv"]
    (source / "sea.csv").unlink()
    with pytest.raises(Accident, match=r"boats, air: .*sea.csv.*; boats, sea: .*sea.csv"):
        fill("boats", redis_url, NOW)


def test_the_command_fills_every_models_views_and_one_broken_source_is_not_anothers_matter(models, redis_url):
    now = pd.Timestamp.now(tz="UTC").isoformat()
    models("boats", f"at,place,wind\n{now},1,7.5\n", sea='Source(tables=("sea",), place="file:///nowhere")')
    models("ports", f"at,place,wind\n{now},1,7.5\n")
    (Path(os.environ["TRAINING_MODELS"]) / "broken").mkdir()
    (Path(os.environ["TRAINING_MODELS"]) / "broken" / "__init__.py").write_text("MODEL = 1\n")
    time.sleep(0.01)
    command = [sys.executable, "-m", "plumbline", "train", "materialise"]
    done = subprocess.run(
        command, env=os.environ | {"FEATURES_REDIS_URL": redis_url}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, "tried again: a source may be back"
    assert "boats, sea: " in done.stderr
    assert "/nowhere/sea.csv" in done.stderr
    assert "broken/__init__.py: expected MODEL = Model(…)" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("ports, air: 1 entities")
    with redis.Redis.from_url(redis_url) as client:
        assert client.exists("features:boats:air:1", "features:ports:air:1") == 2
