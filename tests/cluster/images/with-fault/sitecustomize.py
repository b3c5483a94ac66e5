"""Bugs of a bad build. Everything else is the real server: what tells the bug is its own metrics."""

import asyncio
import os
import random
from itertools import count
from pathlib import Path
from typing import Any

from plumbline.serving.errors import FieldError, invalid
from plumbline.serving.inference.batching import Runner
from plumbline.serving.inference.engine import Engine

run, predict = Runner.now, Engine.predict_one
asked = count(1)


def fail(self: Runner, matrix: Any) -> Any:
    """One request in five is a 500."""
    if random.random() < 0.2:
        raise RuntimeError("a bug")
    return run(self, matrix)


def swap(self: Runner, matrix: Any) -> Any:
    """Every caller gets the answer to the request before its own, with status 200."""
    answer = run(self, matrix)
    before = self.__dict__.get("before", answer)
    self.__dict__["before"] = answer
    return before


async def dawdle(self: Engine, row: Any) -> Any:
    """Half a second more."""
    await asyncio.sleep(0.5)
    return await predict(self, row)


async def die(self: Engine, row: Any) -> Any:
    """Every request is a 500."""
    raise RuntimeError("a bug")


async def refuse(self: Engine, row: Any) -> Any:
    """Every request is called wrong."""
    raise invalid([FieldError("features", "is not known", "other features")])


async def crash(self: Engine, row: Any) -> Any:
    """The server is gone after half a hundred requests."""
    if next(asked) > 50:
        os._exit(1)
    return await predict(self, row)


# Its second word makes the image another one.
match Path(__file__).with_name("fault").read_text().split()[0]:
    case "errors":
        Runner.now = fail  # type: ignore[method-assign]
    case "permuted":
        Runner.now = swap  # type: ignore[method-assign]
    case "slow":
        Engine.predict_one = dawdle  # type: ignore[method-assign]
    case "dead":
        Engine.predict_one = die  # type: ignore[method-assign]
    case "refusing":
        Engine.predict_one = refuse  # type: ignore[method-assign]
    case "crashing":
        Engine.predict_one = crash  # type: ignore[method-assign]
