"""Which rows a holdout holds: the same in training, which writes it, and in the gate, which counts tries on it."""

import pyarrow as pa

from plumbline.core.columns import TIME, TRUTH
from plumbline.core.digests import sha256_of_json


def identity(table: pa.Table) -> str:
    """`sha256:…` over moment and truth of the rows in their order.

    Neither fields nor slices count: another field tried on the same rows is one more try on them. Raises KeyError where
    a holdout has no truth.
    """
    moments: list[int] = []
    if TIME in table.column_names:
        moments = table.column(TIME).cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64()).to_pylist()
    return sha256_of_json([table.column(TRUTH).to_pylist(), moments])
