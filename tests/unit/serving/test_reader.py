"""The quick reader takes nothing that the contract refuses, and reads the same values from what it takes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import FIELDS, OUTPUTS, schema_of
from plumbline.core.schema import ModelSchema
from plumbline.serving.errors import Problem
from plumbline.serving.inference.contract import Contract
from plumbline.serving.inference.reader import ABSENT

CONTRACT = Contract(ModelSchema(model="delays", fields=FIELDS, output=OUTPUTS["binary"]), max_rows=3)
READER = CONTRACT.reader
COLUMNS = list(CONTRACT.columns)
ROW = {"distance": 1400.5, "hour": 17, "carrier": "UA", "origin": "JFK", "wind": 12.5}

# JSON as text, so that what no Python value says can stand in it: 1e400, 18.0, lone surrogates, NaN, repeated names.
numbers = st.sampled_from(
    ["0", "-0.0", "17", "18.0", "18.5", "23.0000000001", "24", "6000", "6000.0000001", "-1", "1e3", "1E400", "-1e-400",
     "NaN", "Infinity", "9007199254740993", "123456789012345678901234567890", "3.5e38", "01", "1.", "+1"]
)  # fmt: skip
texts = st.sampled_from(
    ['"UA"', '"JFK"', '"??"', '""', '"\\ud800"', '"\\u0000"', '"é"', f'"{"x" * 256}"', f'"{"é" * 257}"', '"17"']
)
values = numbers | texts | st.sampled_from(["null", "true", "[1]", "{}", ""]) | st.floats().map(json.dumps)
names = st.sampled_from([*COLUMNS, "other", "Distance"]).map(json.dumps)
good = st.fixed_dictionaries(
    {"distance": numbers, "hour": numbers, "carrier": texts},
    optional={"origin": texts | st.just("null"), "wind": values},
).map(lambda row: "{" + ",".join(f'"{name}":{value}' for name, value in row.items()) + "}")
odd = st.lists(st.tuples(names, values), max_size=7).map(
    lambda pairs: "{" + ", ".join(f"{name}: {value}" for name, value in pairs) + "}"
)
rows = good | odd
plain = st.tuples(
    st.floats(0, 6000).map(json.dumps) | numbers, st.integers(0, 23).map(str) | numbers, texts,
    texts | st.just("null"), st.floats().map(json.dumps) | st.integers().map(str) | st.just("null"),
)  # fmt: skip
arrays = (plain | st.lists(values, min_size=4, max_size=6)).map(lambda row: "[ " + ",".join(row) + "]")
columns = st.sampled_from([COLUMNS, COLUMNS[::-1], COLUMNS[:4], [*COLUMNS, "wind"]]).map(json.dumps)
around = st.sampled_from(["", " ", "\n", "x", ",", "\ufeff"])


def judged(judge: Any, body: bytes) -> Any:
    try:
        return judge(body)
    except Problem:
        return "refused"


def same(quick: Any, slow: Any) -> bool:
    """Equal, also in types and in the sign of zero."""
    return repr(quick) == repr(slow)


@given(st.sampled_from(["features", "feature", "rows"]), rows, around)
def test_one_row(name, row, after):
    body = f'{{"{name}":{row}}}{after}'.encode()
    quick = READER.one(body)
    assert quick is None or same(quick, judged(CONTRACT.judged_one, body))


@given(st.lists(rows, max_size=4), around)
def test_rows(batch, after):
    body = f'{{"rows":[{",".join(batch)}]}}{after}'.encode()
    quick = READER.batch(body)
    assert quick is None or same(quick.rows, judged(CONTRACT.judged_batch, body))


@given(columns, st.lists(arrays, max_size=4), st.booleans(), around)
def test_a_matrix(header, batch, swapped, after):
    parts = [f'"columns":{header}', f'"data":[{",".join(batch)}]']
    body = ("{" + ",".join(parts[::-1] if swapped else parts) + "}" + after).encode()
    quick = READER.batch(body)
    assert quick is None or same(quick.rows, judged(CONTRACT.judged_batch, body))
    if quick is not None and quick.text is not None:
        logged = json.loads(b'{"id":"1",%b,"ms":1}' % quick.text)
        assert logged == {"id": "1", "columns": COLUMNS, "data": list(map(list, quick.rows)), "ms": 1}


def test_a_padded_body_is_not_logged_as_it_stands():
    batch = {"columns": COLUMNS, "data": [list(ROW.values())] * 3}
    compact: Any = READER.batch(json.dumps(batch).encode())
    padded = READER.batch(json.dumps(batch, indent=40).encode())
    assert compact.text is not None
    assert padded == (compact.rows, None, True)


@pytest.mark.parametrize(("more", "wind"), [({}, ABSENT), ({"wind": None}, None), ({"wind": 2.0}, 2.0)])
def test_what_a_view_may_fill_in_is_told_from_null_by_both(more, wind):
    contract: Any = Contract(schema_of("binary", views=True), 10)
    row = {name: value for name, value in ROW.items() if name != "wind"} | more
    one, rows = (json.dumps(body).encode() for body in ({"features": row}, {"rows": [row]}))
    place = contract.columns.index("wind")
    for read, judged in ((contract.reader.one(one), contract.judged_one(one)),
                         (contract.reader.batch(rows).rows[0], contract.judged_batch(rows)[0])):  # fmt: skip
        assert read == judged
        assert read[place] is judged[place] is wind or read[place] == wind
    short = {"columns": list(row), "data": [list(row.values())]}
    assert contract.batch(json.dumps(short).encode()).rows == contract.judged_batch(rows)


@pytest.mark.parametrize("row", [ROW, ROW | {"wind": None}, {"distance": 1, "hour": 0, "carrier": "??"}])
def test_what_is_plainly_right_needs_nobody_else(row):
    values = tuple(row.get(name) for name in COLUMNS)
    assert READER.one(json.dumps({"features": row}).encode()) == values
    named: Any = READER.batch(json.dumps({"rows": [row, ROW]}).encode())
    assert named.rows == [values, tuple(ROW.values())]
    arrays: Any = READER.batch(json.dumps({"columns": COLUMNS, "data": [values] * 3}).encode())
    assert arrays.rows == [values] * 3


@pytest.mark.parametrize("body", [b"", b"\xff", b"{}", b'{"features":1}', b'{"rows":[]}', b"[" * 100_000])
def test_everything_else_is_left_to_the_contract(body):
    assert READER.one(body) is None
    assert READER.batch(body) is None
