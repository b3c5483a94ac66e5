"""The images that these tests release: the project's own model server, and builds of it with a bug."""

import uuid
from typing import Literal

from harness.images import SERVER, Image, push, push_server
from harness.settings import STATE

Fault = Literal["none", "errors", "slow", "permuted", "dead", "refusing", "crashing"]


def server() -> str:
    """The model server of this work tree, by digest."""
    return f"{SERVER}@{push_server()}"


def another(fault: Fault) -> str:
    """The same with a bug of images/with-fault, or with `none`.

    A new image with each call: what was barred once is never released again.
    """
    path = STATE / "fault"
    path.write_text(f"{fault} {uuid.uuid4()}\n")
    image = Image(f"{SERVER}:{fault}", "with-fault", (path,), (f"SERVER={SERVER}:built",))
    return f"{SERVER}@{push(image)}"
