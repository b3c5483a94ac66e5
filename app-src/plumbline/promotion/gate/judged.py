"""What is found of a run before it is signed, by whoever holds no key: registration signs no model that it would parse.

The judge opens the graph and the rows; registration compares digests with what the judge found, and signs.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationError

from plumbline.core.documents import Strict
from plumbline.core.errors import Misuse, Refused
from plumbline.core.holdout import identity
from plumbline.core.names import Digest, Name, plain_name
from plumbline.promotion.delivery.git import checkout
from plumbline.promotion.delivery.records import read_policy
from plumbline.promotion.gate.evaluation import read_evaluation
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Run

LINEAGE = ("model", "data.digest", "code.commit")


class Judged(Strict):
    """`judged.json`: a run's files by their digests, and what they are."""

    run: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    model: Name
    lineage: dict[str, str]
    """What the run said then of model, data and code."""
    bundle: Digest
    evaluation: Digest
    weights: Digest
    """Of what the graph computes."""
    kind: str
    """The graph's operators."""
    holdout: Digest
    """Of moment and truth of the rows."""
    data: Digest | None
    """Which the rows were made of anew; None where no folder defines the model, so that they are the run's word."""
    parity: float
    rows: int
    """On how many of them the ONNX file was compared with the native model."""
    peak_mb: float
    p95_ms: float

    @classmethod
    def read(cls, path: Path) -> "Judged":
        """What `judge` wrote; raises Misuse for anything else."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise Misuse(f"{path}: expected what `plumbline promote judge` writes: {error}") from error


def lineage_of(run: "Run") -> dict[str, str]:
    """What a run says that it was made from."""
    return {name: run.data.tags[name] for name in LINEAGE if run.data.tags.get(name)}


def judge(registry: Registry, settings: Settings, run_id: str) -> Judged:
    """Open a finished run's model and rows; nothing is written anywhere.

    Raises Refused for a run that has not finished or lacks lineage, files that break their types, a graph that may not
    be served, rows that are not git's, or ONNX that differs from the native model beyond the policy.
    """
    from plumbline.promotion.gate.pinned import require_pinned  # a training stack, for seconds

    run = registry.run(run_id)
    if run.info.status != "FINISHED":
        raise Refused(f"run {run_id} is {run.info.status}, expected FINISHED; only finished trainings are registered")
    if missing := [tag for tag in LINEAGE if tag not in lineage_of(run)]:
        raise Refused(f"run {run_id}: the tags {missing} are missing; `plumbline train run` sets them")
    model = plain_name(run.data.tags["model"], "the run's tag model", like="flights")
    with checkout(settings) as tree:
        limit = read_policy(tree, model).spec.rules.parity
    with tempfile.TemporaryDirectory(prefix="promotion-") as folder:
        evaluation = read_evaluation(registry, run_id, model, Path(folder))
        data = require_pinned(evaluation, run.data.tags["data.digest"], run.data.params)
        parity = evaluation.parity(limit.rows)
        if not parity.largest <= limit.max_abs_difference:  # NaN is not within the limit either
            raise Refused(
                f"parity: ONNX differs from the native model by up to {parity.largest:.3g} on {parity.rows:,} rows; "
                f"policies/promotion/{model}.yaml allows {limit.max_abs_difference:g}"
            )
        return Judged(
            run=run_id,
            model=model,
            lineage=lineage_of(run),
            bundle=evaluation.digest,
            evaluation=evaluation.evidence,
            weights=evaluation.bundle.weights,
            kind=evaluation.bundle.kind,
            holdout=identity(evaluation.holdout.table),
            data=data or None,
            parity=parity.largest,
            rows=parity.rows,
            peak_mb=evaluation.peak_mb(),
            p95_ms=evaluation.p95_ms(),
        )
