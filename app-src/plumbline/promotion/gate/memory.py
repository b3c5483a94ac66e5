"""How much memory a model takes: measured in a process of its own, which loads it as the server does."""

import sys
from pathlib import Path

from plumbline.core import programs
from plumbline.core.digests import file_hex
from plumbline.core.errors import Refused
from plumbline.core.schema import ModelSchema

_ROWS = 1000
"""As many as a batch may have by default."""
_measured: dict[tuple[str, str], float] = {}
"""By the model's bytes and what is asked of it: a promotion that lost a race is judged again, and not measured."""


def peak_mb(model: Path, schema: Path) -> float:
    """The most that loading the model and answering a full batch adds to a process, in MB (1e6 bytes).

    A file is held twice while it is loaded, so that this is about twice its size for a large one. Raises Refused where
    the process ends early, as it does where there is not so much memory here. The same bytes are measured once.
    """
    nameless = ModelSchema.model_validate_json(schema.read_bytes()).model_copy(update={"model": ""})
    about = file_hex(model), nameless.digest()
    if about not in _measured:
        _measured[about] = _in_a_process(model, schema)
    return _measured[about]


def _in_a_process(model: Path, schema: Path) -> float:
    done = programs.run(sys.executable, "-m", __name__, model, schema)
    if done.code != 0:
        last = (done.error.strip().splitlines() or ["nothing was said"])[-1]
        raise Refused(f"{model.name}: the process that measured its memory ended with {done.code}: {last}")
    return float(done.text)


def _measure(model: Path, schema: Path) -> float:
    import numpy as np

    from plumbline.core.onnx import INPUT, open_model

    fields = ModelSchema.model_validate_json(schema.read_bytes())
    row = fields.encode([fields.example()])
    before = _peak_kib()
    session = open_model(model, fields)
    session.run([fields.output.tensor], {INPUT: np.repeat(row, _ROWS, axis=0)})
    return (_peak_kib() - before) * 1024 / 1e6


def _peak_kib() -> int:
    """Of this process alone; getrusage would begin with that of the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    print(_measure(Path(sys.argv[1]), Path(sys.argv[2])))
