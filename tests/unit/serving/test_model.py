"""Loading, checks against the schema, measured decisions, and batching that keeps every bit."""

import asyncio
import json
import math
import threading
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.core.onnx import ModelError
from plumbline.core.release import parse_release, read_release
from plumbline.core.schema import Output
from plumbline.serving.errors import Problem
from plumbline.serving.inference.answers import Answers
from plumbline.serving.inference.batching import Runner
from plumbline.serving.inference.cache import ResponseCache
from plumbline.serving.inference.engine import Engine
from plumbline.serving.inference.model import Model, load_model, probe_rows
from plumbline.serving.metrics import Metrics
from plumbline.serving.settings import Limits

LOADED: dict[Any, Any] = {}


def load(bundle, schema=None):
    return load_model(bundle.folder / "model.onnx", schema or bundle.schema, 2, lambda _: None)


def priced(bundle, **cost):
    """The model as if it had measured this: what a busy machine measures is no test's business."""
    if bundle.folder not in LOADED:
        LOADED[bundle.folder] = load(bundle)
    model = copy(LOADED[bundle.folder])
    model.cost = replace(model.cost, **cost)
    return model


def test_a_model_is_timed_and_a_slower_one_takes_longer(bundles):
    fast, slow = (load(bundles[kind]).cost for kind in ("binary", "slow"))
    assert 0 < fast.one_row < slow.one_row
    assert 0 < fast.per_row < slow.per_row
    assert slow.batch_rows >= 4


def test_decisions_follow_the_measured_cost(bundles):
    def runner(**cost):
        return Runner(priced(bundles["slow"], **cost), Metrics(), Limits())

    assert runner(one_row=0.0005, batch_rows=32).mode == "inline"
    assert runner(one_row=0.02, batch_rows=1).mode == "one by one"
    slow = runner(one_row=0.02, batch_rows=32)
    assert slow.mode == "together"
    assert slow.now(probe_rows(bundles["slow"].schema)[:1]) is None


def test_a_model_whose_rows_touch_each_other_is_never_batched(bundles):
    model = load(bundles["mixing"])
    assert model.cost.batch_rows == 1


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression", "slow"])
def test_rows_alone_and_together_are_bit_equal(bundles, kind):
    """The property that batching rests on, over random rows with missing values, through the thread and its queue."""
    model = priced(bundles[kind])
    columns = len(model.schema.fields)
    number = st.floats(-1e4, 1e4, width=32) | st.just(math.nan)

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.lists(number, min_size=columns, max_size=columns), min_size=1, max_size=12))
    def check(rows):
        matrix = np.array(rows, dtype=np.float32)
        alone = np.concatenate([model.run(matrix[i : i + 1]) for i in range(len(matrix))])
        np.testing.assert_array_equal(model.run(matrix), alone)
        np.testing.assert_array_equal(asyncio.run(_together(model, matrix)), alone)

    check()


async def _together(model: Model, matrix):
    """Each row as a caller of its own; they meet in the queue."""
    runner = Runner(model, Metrics(), Limits())
    runner.together = model.cost.batch_rows > 1
    answers = await asyncio.gather(*(runner.later(matrix[i : i + 1]) for i in range(len(matrix))))
    runner.close()
    return np.concatenate(answers)


def test_a_full_queue_refuses_and_rows_of_callers_who_left_are_not_run(bundles):
    model, metrics = priced(bundles["slow"], one_row=0.02, batch_rows=1), Metrics()

    async def main():
        runner = Runner(model, metrics, Limits(max_waiting=8))
        row = probe_rows(model.schema)[:1]
        first = asyncio.create_task(runner.later(row))
        await asyncio.sleep(0)
        gone = [asyncio.create_task(runner.later(row)) for _ in range(7)]
        await asyncio.sleep(0)
        last = asyncio.create_task(runner.later(row))
        refused = asyncio.create_task(runner.later(row))
        late = asyncio.create_task(runner.later(row))
        await asyncio.sleep(0)
        for caller in gone:
            caller.cancel()
        answers = await asyncio.gather(first, last, refused, late, *gone, return_exceptions=True)
        runner.close()
        return answers[:4]

    first, last, *refused = asyncio.run(main())
    assert isinstance(first, np.ndarray)
    np.testing.assert_array_equal(first, last)
    for problem in refused:
        assert isinstance(problem, Problem)
        assert (problem.status, problem.headers["retry-after"]) == (503, "1")
    run = metrics.registry.get_sample_value("serving_batch_rows_count", {"model": "", "version": "", "role": ""})
    assert run == 2


@pytest.fixture
def held(bundles):
    """A runner whose model stands still with what it was given first, what it was given, and how to let go."""
    runners, go = [], threading.Event()

    def make(cost, **limits):
        model, sizes = priced(bundles["slow"], **cost), []
        run = model.run

        def standing(matrix):
            sizes.append(len(matrix))
            assert go.wait(20)
            return run(matrix)

        model.run = standing
        runners.append(Runner(model, Metrics(), Limits(**limits)))
        return runners[-1], probe_rows(model.schema), sizes, go

    yield make
    go.set()
    for runner in runners:
        runner.close()


def test_what_has_waited_too_long_is_refused_while_another_runs_and_is_not_run(held):
    async def main():
        runner, rows, sizes, go = held({"one_row": 0.02, "per_row": 1e-6, "batch_rows": 32}, queue_seconds=0.2)
        first = asyncio.create_task(runner.later(rows[:1]))
        while not sizes:
            await asyncio.sleep(0.01)
        with pytest.raises(Problem) as refused:
            await runner.later(rows[:2])
        assert runner._waiting_rows == 0
        go.set()
        assert len(await first) == 1, "what runs is waited for"
        assert len(await runner.later(rows[:3])) == 3
        return refused.value, sizes

    problem, sizes = asyncio.run(main())
    assert (problem.status, problem.headers["retry-after"]) == (503, "1")
    assert sizes == [1, 3]


def test_the_batch_that_runs_is_part_of_the_time_that_is_ahead(held):
    async def main():
        runner, rows, sizes, go = held({"one_row": 100.0, "per_row": 100.0, "batch_rows": 32}, queue_seconds=250)
        first = asyncio.create_task(runner.later(rows[:2]))
        while not sizes:
            await asyncio.sleep(0.01)
        # 200 s of the model are ahead, although nobody waits.
        second = asyncio.create_task(runner.later(rows[:1]))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as refused:  # 300 s
            await runner.later(rows[:1])
        go.set()
        await asyncio.gather(first, second)
        assert len(await runner.later(rows[:1])) == 1, "nothing is ahead of an idle model"
        return refused.value

    assert 290 < int(asyncio.run(main()).headers["retry-after"]) <= 300


def test_what_waits_encoded_is_bounded_in_bytes(held):
    """Its callers' bodies are: a text of one byte may be thousands of columns."""

    async def main():
        limits = {"max_body_bytes": 1024, "max_bytes_in_flight": 1024}
        runner, rows, sizes, go = held({"one_row": 0.02, "per_row": 1e-6, "batch_rows": 32}, **limits)
        asking = [asyncio.create_task(runner.later(rows))]  # 1,280 bytes: one finds room, however large
        while not sizes:
            await asyncio.sleep(0.01)
        asking.append(asyncio.create_task(runner.later(rows[:50])))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as refused:
            await runner.later(rows[:2])
        go.set()
        await asyncio.gather(*asking)
        assert len(await runner.later(rows[:2])) == 2, "there is room again"
        return refused.value

    assert asyncio.run(main()).status == 503


def test_a_wide_input_is_kept_by_its_digest():
    cache = ResponseCache("origin", 1.0, b"key", entries=100, seconds=60)
    cache.bind(Metrics())
    inputs = [np.full((1, 4096), number, np.float32) for number in range(50)]
    for number, matrix in enumerate(inputs):
        cache.keep(cache.key_of(matrix), [float(number)])
    assert [cache.find(cache.key_of(matrix)) for matrix in inputs] == [[float(number)] for number in range(50)]
    assert sum(map(len, cache._local._rows)) < 50 * 64


def test_callers_are_put_together_in_order_and_counted(bundles):
    model, metrics = priced(bundles["slow"], one_row=0.02, batch_rows=32), Metrics()

    async def main():
        runner = Runner(model, metrics, Limits())
        rows = probe_rows(model.schema)
        sizes = [1, 2, 3, 1, 4]
        parts = np.split(rows[: sum(sizes)], np.cumsum(sizes)[:-1])
        answers = await asyncio.gather(*(runner.later(np.ascontiguousarray(part)) for part in parts))
        for part, answer in zip(parts, answers, strict=True):
            np.testing.assert_array_equal(answer, model.run(np.ascontiguousarray(part)))
        runner.close()

    asyncio.run(main())
    count = metrics.registry.get_sample_value("serving_batch_rows_count", {"model": "", "version": "", "role": ""})
    assert count is not None
    assert count < 5


WIDE = {"a row of another width": slice(0, 2), "a row that the model fails on": slice(None)}


@pytest.mark.parametrize("fault", WIDE)
def test_a_failed_batch_fails_the_caller_who_is_to_blame_and_nobody_else(bundles, fault):
    """Each caller's rows are run once more, alone, and no oftener."""
    model = priced(bundles["slow"], one_row=0.02, batch_rows=32)
    rows, run, sizes = probe_rows(model.schema), model.run, []
    bad = np.ascontiguousarray(rows[5:6, WIDE[fault]])

    def counted(matrix):
        sizes.append(len(matrix))
        if (matrix[:, :2] == bad[:, :2]).all(axis=1).any():
            raise RuntimeError("this one")
        return run(matrix)

    model.run = counted

    async def main():
        runner = Runner(model, Metrics(), Limits())
        callers = [rows[:1], rows[1:4], bad, rows[4:5]]
        gone = asyncio.create_task(runner.later(rows[:1]))
        asked = asyncio.gather(*(runner.later(part) for part in callers), return_exceptions=True)
        await asyncio.sleep(0)
        gone.cancel()
        answers = await asked
        later = await runner.later(rows[6:7])
        runner.close()
        return answers, later

    (first, second, blamed, last), later = asyncio.run(main())
    assert isinstance(blamed, RuntimeError)
    for answer, part in ((first, rows[:1]), (second, rows[1:4]), (last, rows[4:5]), (later, rows[6:7])):
        np.testing.assert_array_equal(answer, run(part))
    # The caller that went away is not run at all.
    together = [6] if fault == "a row that the model fails on" else []
    assert sizes == [*together, 1, 3, 1, 1, 1]


def test_a_caller_that_went_away_harms_nobody(bundles):
    async def main():
        runner = Runner(priced(bundles["slow"]), Metrics(), Limits())
        rows = probe_rows(bundles["slow"].schema)
        gone, stays = (asyncio.create_task(runner.later(rows[i : i + 1])) for i in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        answer = await stays
        runner.close()
        np.testing.assert_array_equal(answer, runner._model.run(rows[1:2]))

    asyncio.run(main())


def _answers_under_another_name(graph):
    graph.node.add(op_type="Identity", input=["probabilities"], output=["other"])
    graph.output[0].name = "other"


def _takes_doubles(graph):
    for node in graph.node:
        node.input[:] = ["narrow" if name == "features" else name for name in node.input]
    graph.node.insert(0, onnx.helper.make_node("Cast", ["features"], ["narrow"], to=onnx.TensorProto.FLOAT))
    graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_answers_under_another_name, "its outputs are .*'other'.* expected 'probabilities'"),
        (_takes_doubles, r"its inputs are .*tensor\(double\).* expected one, 'features', float32"),
        (lambda graph: graph.node.pop(), "cannot load it"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(bundles, tmp_path, edit, message):
    model = onnx.load(bundles["binary"].folder / "model.onnx")
    edit(model.graph)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "model.onnx", bundles["binary"].schema, 1, lambda _: None)


def test_a_model_of_another_task_or_width_is_refused(bundles):
    with pytest.raises(ModelError, match="expected 'value'"):
        load(bundles["binary"], bundles["regression"].schema)
    with pytest.raises(ModelError, match=r"\(rows, 3\)"):
        load(bundles["binary"], bundles["multiclass"].schema)
    narrow = bundles["binary"].schema.model_copy(update={"fields": bundles["binary"].schema.fields[:3]})
    with pytest.raises(ModelError, match=r"\(rows, 3\)"):
        load(bundles["binary"], narrow)


def test_a_pickle_in_place_of_the_model_is_not_executed(bundles, tmp_path):
    """F10: there is nothing in the server that would unpickle; ONNX Runtime refuses the bytes."""
    import pickle

    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return (marker.touch, ())

    (tmp_path / "model.onnx").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match="cannot load it"):
        load_model(tmp_path / "model.onnx", bundles["binary"].schema, 1, lambda _: None)
    assert not marker.exists()


def test_numbers_read_back_as_the_models_own(bundles):
    bundle = bundles["binary"]
    output = load(bundle).run(probe_rows(bundle.schema))
    answers = Answers(bundle.schema.output, None)
    for row in output:
        answer = json.loads(answers.render(row.tolist()))
        assert np.array_equal(np.array(list(answer["probabilities"].values()), np.float32), row)
        assert answer["label"] == ("late" if row[1] >= 0.5 else "on-time")
    with pytest.raises(Problem, match="no finite answer"):
        answers.render([math.nan, 1.0])


@pytest.mark.parametrize("labels", [(), ("no", 'a "yes"'), ("a", "b,c", "d")])
def test_a_batch_is_rendered_as_its_rows_are(labels):
    """The threshold too, which lies between two float32 and must not be rounded to one of them."""
    task = {0: "regression", 2: "binary", 3: "multiclass"}[len(labels)]
    answers = Answers(Output(task=task, name="y", description="", labels=labels), 0.7)
    below = float(np.float32(0.7))
    assert below < 0.7
    rows = [[0.2, below, 0.1], [1e-30, 0.70000005, 3e38], [0.5, 0.5, 0.5], [-0.0, 1.0, 123456.7]]
    outputs = np.array(rows, np.float32)[:, : max(1, len(labels))]
    for count in range(1, len(rows) + 1):
        together = json.loads(b"[%b]" % answers.render_all(outputs[:count]))
        assert repr(together) == repr([json.loads(answers.render(row)) for row in outputs[:count].tolist()])
    outputs[2, 0] = math.inf
    with pytest.raises(Problem, match="no finite answer"):
        answers.render_all(outputs)


def test_the_release_of_a_bundle_reads_back(bundles, tmp_path):
    release = read_release(bundles["binary"].release(tmp_path / "release.yaml"))
    assert release.spec.threshold == 0.4


def test_what_is_shared_is_of_one_model_and_one_image(bundles, settings_of):
    """Two images of the same model may encode differently."""
    configured = settings_of(bundles["binary"])
    text = configured.release.read_text()

    def prefix(release):
        engine = Engine(release, bundles["binary"].schema, priced(bundles["binary"]), configured, metrics)
        engine.close()
        return engine.cache._shared_key(b"key")

    metrics = Metrics()
    again, image, model = (
        prefix(parse_release(changed))
        for changed in (
            text,
            text.replace("serving@sha256:" + "0" * 64, "serving@sha256:" + "1" * 64),
            text.replace(bundles["binary"].digest, "sha256:" + "2" * 64),
        )
    )
    assert prefix(parse_release(text)) == again
    assert len({again, image, model}) == 3
