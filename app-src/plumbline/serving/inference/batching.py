"""Where the model runs: a fast one at once on the event loop, a slow one in a thread, several callers' rows together.

There is no waiting for company: while the thread runs one batch, the next gathers. Callers' rows are put together only
where the warm-up saw bit-equal answers alone and together, and up to as many as it tried; otherwise each caller's rows
are run on their own.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from plumbline.serving.errors import Problem
from plumbline.serving.inference.model import Matrix, Model
from plumbline.serving.metrics import Metrics

_WAITING = 256
"""Callers that may wait for the model."""
_DEADLINE_SECONDS = 10.0
"""Rows that would wait for longer than this, at the cost that the warm-up measured, are refused at once."""
_RETRY_SECONDS = 1
INLINE_SECONDS = 1e-3
"""A run that is expected to be shorter than this costs less on the event loop than the way to a thread and back."""


class Runner:
    """Runs matrices through a model; answers come back in the order and number of the rows given."""

    def __init__(self, model: Model, metrics: Metrics) -> None:
        self._model = model
        self._one, self._each = model.cost.one_row, model.cost.per_row
        self.inline = self._one < INLINE_SECONDS
        self.together = not self.inline and model.cost.batch_rows > 1
        self._waiting: deque[tuple[Matrix, asyncio.Future[Matrix]]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None
        self._rows = metrics.of(metrics.batch_rows)
        metrics.watch(metrics.queue_depth, lambda: float(self._depth()))

    @property
    def mode(self) -> str:
        """How rows are run, for people."""
        return "inline" if self.inline else "together" if self.together else "one by one"

    def now(self, matrix: Matrix) -> Matrix | None:
        """Run at once if that is short, else None: the caller then awaits `later`."""
        if self._one + self._each * (len(matrix) - 1) >= INLINE_SECONDS:
            return None
        self._rows.observe(len(matrix))
        return self._model.run(matrix)

    async def later(self, matrix: Matrix) -> Matrix:
        """Run in the model's thread, with what else waits."""
        future: asyncio.Future[Matrix] = asyncio.get_running_loop().create_future()
        expected = (self._depth() + len(matrix)) * self._each
        if self._waiting and (len(self._waiting) >= _WAITING or expected > _DEADLINE_SECONDS):
            raise Problem(
                503, "the model has more to do than it can answer in time", headers={"retry-after": str(_RETRY_SECONDS)}
            )
        self._waiting.append((matrix, future))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await future

    def _depth(self) -> int:
        return sum(len(item[0]) for item in self._waiting)

    def close(self) -> None:
        """Let the thread end."""
        self._pool.shutdown(wait=False)

    async def _work(self) -> None:
        while self._waiting:
            if self._waiting[0][1].done():  # its caller hung up: nobody's rows are not run
                self._waiting.popleft()
                continue
            await self._run(self._next())
        self._task = None

    async def _run(self, batch: "list[tuple[Matrix, asyncio.Future[Matrix]]]") -> None:
        """Run callers' rows together. Where that fails each caller's are run once more, alone: one is to blame."""
        try:
            matrix = batch[0][0] if len(batch) == 1 else np.concatenate([item[0] for item in batch])
            self._rows.observe(len(matrix))
            answers = await asyncio.get_running_loop().run_in_executor(self._pool, self._model.run, matrix)
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
        """What is run next: the first in the queue, and as many after it as may run with it."""
        batch = [self._waiting.popleft()]
        rows = len(batch[0][0])
        while self.together and self._waiting and rows + len(self._waiting[0][0]) <= self._model.cost.batch_rows:
            item = self._waiting.popleft()
            if not item[1].done():
                batch.append(item)
                rows += len(item[0])
        return batch
