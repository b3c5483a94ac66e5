"""Where the model runs: a fast one at once on the event loop, a slow one in a thread, several callers' rows together.

There is no waiting for company: while the thread runs one batch, the next gathers. Callers' rows are put together only
where the warm-up saw bit-equal answers alone and together, and up to as many as it tried; otherwise each caller's rows
are run on their own.
"""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Protocol

import numpy as np

from plumbline.serving.errors import Problem, overloaded
from plumbline.serving.inference.model import Matrix, Model
from plumbline.serving.metrics import Metrics
from plumbline.serving.settings import Limits

INLINE_SECONDS = 1e-3
"""A run that is expected to be shorter than this costs less on the event loop than the way to a thread and back."""


class Asking(Protocol):
    """Whoever is to be answered."""

    def waits_for(self, answer: "asyncio.Future[Matrix]") -> None:
        """Give `answer` the exception HungUp when this caller goes away before it is there."""


CALLER: ContextVar[Asking | None] = ContextVar("caller", default=None)
"""The connection of the request that is being answered."""


class Runner:
    """Runs matrices through a model; answers come back in the order and number of the rows given."""

    def __init__(self, model: Model, metrics: Metrics, limits: Limits) -> None:
        self._model = model
        self._one, self._each = model.cost.one_row, model.cost.per_row
        self._most, self._seconds, self._room = limits.max_waiting, limits.queue_seconds, limits.max_bytes_in_flight
        self.inline = self._one < INLINE_SECONDS
        self.together = not self.inline and model.cost.batch_rows > 1
        self._waiting: OrderedDict[asyncio.Future[Matrix], tuple[Matrix, asyncio.TimerHandle]] = OrderedDict()
        self._waiting_rows = self._waiting_bytes = 0
        self._free_at = 0.0
        """When the batch that runs should end, by the loop's clock."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None
        self._rows = metrics.of(metrics.batch_rows)
        metrics.watch(metrics.queue_depth, lambda: float(self._waiting_rows))

    @property
    def mode(self) -> str:
        """How rows are run, for people."""
        return "inline" if self.inline else "together" if self.together else "one by one"

    def now(self, matrix: Matrix) -> Matrix | None:
        """Run at once if that is short, else None: the caller then awaits `later`."""
        if self._expected(len(matrix)) >= INLINE_SECONDS:
            return None
        self._rows.observe(len(matrix))
        return self._model.run(matrix)

    async def later(self, matrix: Matrix) -> Matrix:
        """Run in the model's thread, with what else waits.

        Raises Problem 503 where its turn would come too late or did not come in time, HungUp where the caller left.
        """
        loop = asyncio.get_running_loop()
        ahead = max(0.0, self._free_at - loop.time()) + self._waiting_rows * self._each
        # A text of one byte may be 4,096 columns: what the bodies' size bounds is not what waits here.
        crowded = self._waiting_bytes > 0 and self._waiting_bytes + matrix.nbytes > self._room
        if len(self._waiting) >= self._most or crowded or ahead > self._seconds:
            raise _too_much(ahead)
        answer: asyncio.Future[Matrix] = loop.create_future()
        self._waiting[answer] = matrix, loop.call_later(self._seconds, self._late, answer)
        self._waiting_rows += len(matrix)
        self._waiting_bytes += matrix.nbytes
        answer.add_done_callback(self._leave)
        if (caller := CALLER.get()) is not None:
            caller.waits_for(answer)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await answer

    def _expected(self, rows: int) -> float:
        return self._one + self._each * (rows - 1)

    def _leave(self, answer: "asyncio.Future[Matrix]") -> None:
        """Out of the queue: it is run now, too late, or for nobody."""
        matrix, timer = self._waiting.pop(answer, (None, None))
        if matrix is not None and timer is not None:
            timer.cancel()
            self._waiting_rows -= len(matrix)
            self._waiting_bytes -= matrix.nbytes

    def _late(self, answer: "asyncio.Future[Matrix]") -> None:
        if not answer.done():
            answer.set_exception(_too_much(self._seconds))

    def close(self) -> None:
        """Let the thread end."""
        self._pool.shutdown(wait=False)

    async def _work(self) -> None:
        try:
            while batch := self._next():
                await self._run(batch)
        finally:  # whatever ends it, the next caller begins it again
            self._task, self._free_at = None, 0.0

    async def _run(self, batch: "list[tuple[Matrix, asyncio.Future[Matrix]]]") -> None:
        """Run callers' rows together. Where that fails each caller's are run once more, alone: one is to blame."""
        try:
            matrix = batch[0][0] if len(batch) == 1 else np.concatenate([item[0] for item in batch])
            self._rows.observe(len(matrix))
            loop = asyncio.get_running_loop()
            self._free_at = loop.time() + self._expected(len(matrix))
            answers = await loop.run_in_executor(self._pool, self._model.run, matrix)
        except Exception as error:  # the callers are told, and the next batch is run
            for rows, future in batch:
                if future.done():  # a caller that went away was cancelled
                    continue
                if len(batch) > 1:
                    await self._run([(rows, future)])
                else:
                    future.set_exception(error)
            return
        start = 0
        for rows, future in batch:
            if not future.done():
                future.set_result(answers[start : start + len(rows)])
            start += len(rows)

    def _next(self) -> list[tuple[Matrix, "asyncio.Future[Matrix]"]]:
        """What is run next: the first in the queue whose caller waits, and as many after it as may run with it."""
        batch: list[tuple[Matrix, asyncio.Future[Matrix]]] = []
        rows = 0
        while self._waiting:
            answer, (matrix, _) = next(iter(self._waiting.items()))
            if batch and not (self.together and rows + len(matrix) <= self._model.cost.batch_rows):
                break
            self._leave(answer)
            if not answer.done():
                batch.append((matrix, answer))
                rows += len(matrix)
        return batch


def _too_much(seconds: float) -> Problem:
    return overloaded("the model has more to do than it can answer in time", seconds)
