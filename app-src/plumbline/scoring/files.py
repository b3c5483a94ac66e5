"""The files of a part, read and written where they lie: a folder of this machine or a bucket."""

import io
from collections.abc import Iterator
from pathlib import PurePath

import pandas as pd
from fsspec.core import url_to_fs

from plumbline.core.values import RowsError
from plumbline.scoring.scorer import Scorer


def score_files(scorer: Scorer, rows: str, out: str, part: int, parts: int) -> Iterator[tuple[str, int]]:
    """Answer the files with number % parts == part; yields name and rows of each. Raises RowsError that names the file.

    A file whose answers lie there is skipped, so that a broken run is taken up. Answers of another model are other
    files: the digest is in their path.
    """
    store, folder = url_to_fs(rows)
    digest = scorer.release.spec.artifact.digest.removeprefix("sha256:")[:12]
    target, into = url_to_fs(f"{out.rstrip('/')}/{digest}")
    for number, path in enumerate(sorted(store.glob(f"{folder}/*.parquet"))):
        name = PurePath(path).name
        if number % parts != part or target.exists(f"{into}/{name}"):
            continue
        try:
            frame = pd.read_parquet(io.BytesIO(store.cat_file(path)))
            # An index with a name is a column to whoever wrote the file: ids, often.
            answers = scorer.score(frame.reset_index([name for name in frame.index.names if name is not None]))
        except ValueError as error:
            raise RowsError(f"{name}: {error}") from error
        # Written in one piece: in a bucket an object is there whole or not at all.
        target.makedirs(into, exist_ok=True)
        buffer = io.BytesIO()
        answers.to_parquet(buffer, index=False)
        target.pipe_file(f"{into}/{name}", buffer.getvalue())
        yield name, len(answers)
