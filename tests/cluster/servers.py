"""The images that these tests release: the project's own model server, and builds of it with a bug."""

import uuid
from typing import Literal

from harness import images
from harness.images import Image, push, push_server
from harness.settings import ROOT, RUNNING, STATE
from plumbline.tree.values import Values, read_values

Fault = Literal["none", "errors", "slow", "permuted", "dead", "refusing", "crashing"]


def server() -> str:
    """The model server of this work tree, by digest."""
    return f"{images.server(_values())}@{push_server(_values())}"


def _values() -> Values:
    """Of the environment that runs; on a cluster of somebody's own `local`."""
    return read_values(ROOT, RUNNING.read_text() if RUNNING.exists() else "local")


def another(fault: Fault) -> str:
    """The same with a bug of images/with-fault, or with `none`.

    A new image with each call: what was barred once is never released again.
    """
    path = STATE / "fault"
    path.write_text(f"{fault} {uuid.uuid4()}\n")
    name = images.server(_values())
    image = Image(f"{name}:{fault}", "with-fault", (path,), (f"SERVER={name}:built",))
    return f"{name}@{push(image)}"
