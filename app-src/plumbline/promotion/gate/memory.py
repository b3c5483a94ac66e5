"""A model loaded for the first time: in a process of its own, without network, secrets or time and memory to waste.

It loads the model as the server does, answers a full batch, and says how much memory that took.
"""

import ctypes
import os
import resource
import sys
from pathlib import Path

from plumbline.core import programs
from plumbline.core.digests import file_hex
from plumbline.core.errors import PlumblineError, Refused
from plumbline.core.schema import ModelSchema

_ROWS = 1000
"""As many as a batch may have by default."""
_MOST_BYTES = 4 << 30
"""Of address space beyond what the process had before the model; a policy's `memory_mb` is far below."""
_MOST_SECONDS = 60
"""Of processor time, for all of it."""
_KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE")
"""What the process needs of the surroundings; the others may be secrets."""
_NEW_USERS, _NEW_NETWORK = 0x10000000, 0x40000000
_measured: dict[tuple[str, str], float] = {}
"""By the model's bytes and what is asked of it: a promotion that lost a race is judged again, and not measured."""


def peak_mb(model: Path, schema: Path) -> float:
    """The most that loading the model and answering a full batch adds to a process, in MB (1e6 bytes).

    A file is held twice while it is loaded, so that this is about twice its size for a large one. Raises Refused where
    it can't be loaded or answers nothing, where it takes more memory or time than any server would give it, and where
    the process ends early. The same bytes are measured once.
    """
    nameless = ModelSchema.model_validate_json(schema.read_bytes()).model_copy(update={"model": ""})
    about = file_hex(model), nameless.digest()
    if about not in _measured:
        _measured[about] = _in_a_process(model, schema)
    return _measured[about]


def surroundings() -> dict[str, str]:
    """The environment of the process that loads a model first: without anything that may be a secret."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | {"OPENBLAS_NUM_THREADS": "1"}


def _in_a_process(model: Path, schema: Path) -> float:
    done = programs.run(sys.executable, "-m", __name__, model, schema, environment=surroundings())
    if done.code == Refused.exit_code:
        raise Refused(done.text.strip())
    if done.code != 0:
        last = (done.error.strip().splitlines() or ["nothing was said"])[-1]
        raise Refused(f"{model.name}: the process that measured its memory ended with {done.code}: {last}")
    return float(done.text)


def _measure(model: Path, schema: Path) -> float:
    import numpy as np

    from plumbline.core.onnx import INPUT, open_model

    fields = ModelSchema.model_validate_json(schema.read_bytes())
    row = fields.encode([fields.example()])
    confine(_MOST_SECONDS)
    before = _peak_kib()
    session = open_model(model, fields)
    session.run([fields.output.tensor], {INPUT: np.repeat(row, _ROWS, axis=0)})
    return (_peak_kib() - before) * 1024 / 1e6


def confine(seconds: int) -> None:
    """What is loaded from here on reaches no network, writes no file, and ends where it takes too much."""
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    for limit, most in (
        (resource.RLIMIT_AS, used + _MOST_BYTES),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    # A network of its own has no way out. Where the kernel gives none, as to a pod, the pod's own rules hold.
    unshare = ctypes.CDLL(None).unshare
    _ = unshare(_NEW_NETWORK) == 0 or unshare(_NEW_USERS | _NEW_NETWORK)


def _peak_kib() -> int:
    """Of this process alone; getrusage would begin with that of the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    try:
        print(_measure(Path(sys.argv[1]), Path(sys.argv[2])))
    except PlumblineError as error:
        print(error)
        sys.exit(Refused.exit_code)
