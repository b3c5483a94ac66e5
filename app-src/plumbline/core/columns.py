"""The platform's own columns beside a model's fields: in its rows, in its holdout and in a drift report."""

from collections.abc import Iterable

from plumbline.core.schema import Output

TRUTH = "truth"
TIME = "at"
"""The column of a moment: of a row, when its answer is asked for; of a view's value, from when on it was known."""
SLICE = "slice_"
"""How the columns begin that slices are judged by."""
NATIVE = "native_"
"""How the columns begin that hold what the native model answered."""
OWN = "_"
"""How the platform's other columns begin; no field's name can begin so."""
CLUSTER = f"{OWN}cluster"
"""What the rows share that depend on each other: a day, a patient, a caller."""
BASELINE = f"{OWN}baseline_"
"""How the columns begin that hold what the baseline answered."""
OURS = (TRUTH, TIME, "prediction")


def is_ours(name: str) -> bool:
    """Whether a column of this name is the platform's own, so that no field may have it."""
    return name in OURS or name.startswith((SLICE, NATIVE, OWN))


def slices(columns: Iterable[object]) -> tuple[str, ...]:
    """What slices are judged by among columns, without `slice_`."""
    return tuple(str(name).removeprefix(SLICE) for name in columns if str(name).startswith(SLICE))


def native(output: Output, prefix: str = NATIVE) -> list[str]:
    """The columns of the native model's answer (or the baseline's): one a class, or `native_value` for a number."""
    return [f"{prefix}{label}" for label in output.labels or ("value",)]
