"""What may be served: exactly the expected files, a graph of the contract, unchanged and signed."""

import os
import random
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from onnx import TensorProto, helper, numpy_helper

from plumbline.core import programs
from plumbline.core.artifact import ArtifactError, digest_of, verify_artifact
from plumbline.core.errors import Accident, Inconclusive, Refused
from plumbline.core.schema import ModelSchema
from plumbline.promotion.gate import evaluation
from plumbline.promotion.gate.bundle import check_names, one_row_p95_ms, open_bundle
from plumbline.promotion.gate.holdout import Holdout, parity, read_holdout
from plumbline.promotion.gate.memory import peak_mb, surroundings
from plumbline.promotion.registry.client import Registry, bundle_uri
from plumbline.promotion.registry.signing import generate_keys, sign

SCHEMA = ModelSchema.model_validate(
    {
        "model": "toy",
        "fields": [
            {"name": "wind", "type": "number", "description": "d", "example": 1.0},
            {
                "name": "carrier",
                "type": "category",
                "description": "d",
                "example": "UA",
                "required": False,
                "vocabulary": ["UA"],
            },
        ],
        "output": {"task": "binary", "name": "late", "description": "d", "labels": ["no", "yes"]},
    }
)
WEIGHTS = np.array([[0.1, -0.2], [0.3, 0.4]], dtype=np.float32)


def graph(
    *,
    name: str = "features",
    output: str = "probabilities",
    weights: np.ndarray = WEIGHTS,
    kind: int = TensorProto.FLOAT,
    width: int | str = 2,
    rows: int | None = None,
) -> onnx.ModelProto:
    tensor = numpy_helper.from_array(weights.astype(helper.tensor_dtype_to_np_dtype(kind)), "w")
    kept = numpy_helper.from_array(np.ones(weights.shape[1], dtype=bool), "kept")
    nodes = [
        helper.make_node("MatMul", [name, "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"]),
        # How many columns Compress keeps is known when it runs.
        helper.make_node("Compress", ["p", "kept"], [output], axis=1)
        if width == "n"
        else helper.make_node("Identity", ["p"], [output]),
    ]
    made = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info(name, kind, [None, weights.shape[0]])],
        [helper.make_tensor_value_info(output, kind, [rows, width])],
        [tensor, kept],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "model.onnx").write_bytes(graph().SerializeToString())
    (path / "schema.json").write_text(SCHEMA.to_json())
    return path


def test_a_good_bundle_answers(folder: Path) -> None:
    bundle = open_bundle(folder, "toy")
    assert bundle.kind == "Identity+MatMul+Softmax"
    assert bundle.bytes == sum(path.stat().st_size for path in folder.iterdir())
    x = np.array([[1, 2], [3, 4]] * 15_000, dtype=np.float32)  # more rows than one chunk
    z = np.exp(x @ WEIGHTS)
    np.testing.assert_allclose(bundle.predict(x), z / z.sum(axis=1, keepdims=True), rtol=1e-5)
    assert 0 < one_row_p95_ms(bundle, runs=60) < 1000


def test_a_large_model_takes_what_it_needs_and_a_small_one_nothing_to_speak_of(folder: Path) -> None:
    small = peak_mb(folder / "model.onnx", folder / "schema.json")
    model = graph()
    wide = np.full((2, 3000), 0.01, dtype=np.float32)  # 2 → 3,000 → 3,000 → 2: 36 MB of weights
    weights = {"w": wide, "a": np.full((3000, 3000), 1e-4, dtype=np.float32), "b": wide.T.copy()}
    del model.graph.initializer[0]
    model.graph.initializer.extend(numpy_helper.from_array(weights[name], name) for name in weights)
    for node in reversed(
        [helper.make_node("MatMul", ["wide", "a"], ["deep"]), helper.make_node("MatMul", ["deep", "b"], ["z"])]
    ):
        model.graph.node.insert(1, node)
    model.graph.node[0].output[0] = "wide"
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    large = peak_mb(folder / "model.onnx", folder / "schema.json")
    assert small < 20
    assert 36 < large - small < 200


def test_a_model_that_cannot_be_measured_is_refused(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no model")
    with pytest.raises(Refused, match=r"^model\.onnx: ONNX Runtime cannot load it"):
        peak_mb(folder / "model.onnx", folder / "schema.json")


def test_a_model_is_first_loaded_where_it_can_take_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen gigabytes are refused there, and the process that judges goes on."""
    model = graph()
    model.graph.node[-1].output[0] = "sound"
    for node in (
        helper.make_node("ConstantOfShape", ["shape"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["sound", "nothing"], ["probabilities"]),
    ):
        model.graph.node.add().CopyFrom(node)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 32]), "shape"))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    monkeypatch.setattr("plumbline.promotion.gate.bundle.open_model", lambda *_: pytest.fail("it was opened here"))
    with pytest.raises(Refused, match=r"^model\.onnx: .*fails on 2 rows|cannot load it"):
        open_bundle(folder, "toy")


PROBE = """
import os, socket, sys
from plumbline.promotion.gate.memory import confine
confine(2)
print([name for name in os.environ if name.startswith("SECRET")])
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1)
    print("connected")
except OSError as error:
    print("no network")
sys.stdout.flush()
try:
    bytearray(5 << 30)
except MemoryError:
    print("no memory", flush=True)
while True:
    pass
"""


def test_where_it_is_first_loaded_there_is_no_secret_no_way_out_and_little_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process's own limits, with something that tries in the model's place."""
    monkeypatch.setenv("SECRET_TOKEN", "x")
    (tmp_path / "probe.py").write_text(PROBE)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = programs.run(sys.executable, tmp_path / "probe.py", port, environment=surroundings(), seconds=120)
    secrets, network, room = done.text.splitlines()
    assert (secrets, room, done.code) == ("[]", "no memory", -signal.SIGKILL), done.error
    assert network == "no network" or os.geteuid() != 0, "a user without rights may have none of its own to give"


def test_answers_that_are_no_probabilities_are_refused(folder: Path) -> None:
    model = graph()
    model.graph.node[-1].CopyFrom(helper.make_node("Add", ["p", "p"], ["probabilities"]))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    bundle = open_bundle(folder, "toy")
    with pytest.raises(Refused, match=r"expected probabilities that add up to 1; so in 2 of 2 rows"):
        bundle.predict(np.array([[1, 2], [3, 4]], dtype=np.float32))


def external() -> bytes:
    model = graph()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (b"", "model.onnx: "),
        (b"\x80\x04pickle", "not an ONNX file"),
        (external(), r"the weights \['w'\] stand outside the file"),
        (graph(name="input").SerializeToString(), "its inputs are .*'input'.* expected one, 'features'"),
        (graph(output="label").SerializeToString(), "its outputs are .*'label'.* expected 'probabilities'"),
        (graph(weights=np.ones((3, 2))).SerializeToString(), r"expected one, 'features', float32 of shape \(rows, 2\)"),
        (graph(kind=TensorProto.DOUBLE).SerializeToString(), r"its inputs are .*tensor\(double\)"),
        (graph(weights=np.ones((2, 3)), width=3).SerializeToString(), r"float32 of shape \(rows, 2\)"),
        # What the graph leaves open, or tells otherwise than it answers.
        (graph(weights=np.ones((2, 3)), width="n").SerializeToString(), r"of shape \(2, 3\), expected \(2, 2\)"),
        (graph(rows=1).SerializeToString(), r"its outputs are .*\[1, 2\].* expected 'probabilities'"),
    ],
)
def test_graphs_that_break_the_contract(folder: Path, model: bytes, said: str) -> None:
    (folder / "model.onnx").write_bytes(model)
    with pytest.raises(Refused, match=said):
        open_bundle(folder, "toy")


def _linked(path: Path) -> None:
    path.symlink_to(path.replace(path.parent.parent / "elsewhere"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: (path / "extra.py").touch(), r"unexpected \['extra.py'\]"),
        (lambda path: (path / "deep").mkdir(), r"unexpected \['deep'\]"),
        (lambda path: (path / "schema.json").unlink(), r"\['schema.json'\] missing"),
        (lambda path: (path / "schema.json").write_bytes(b"\xff"), "not a model schema"),
        (lambda path: (path / "schema.json").write_text(SCHEMA.model_dump_json()), "canonical form"),
        (lambda path: (path / "schema.json").write_text(SCHEMA.to_json().replace("toy", "other")), "model is 'other'"),
        (lambda path: _linked(path / "model.onnx"), "not plain files"),
    ],
)
def test_folders_that_are_not_a_bundle(folder: Path, spoil: Callable[[Path], Any], said: str) -> None:
    spoil(folder)
    with pytest.raises(Refused, match=said):
        open_bundle(folder, "toy")


def test_names_are_judged_before_a_download() -> None:
    check_names(["model.onnx", "schema.json"], signed=None)
    check_names(["model.onnx", "schema.json", "model.sig"], signed=True)
    with pytest.raises(Refused, match=r"\['model.sig'\] missing"):
        check_names(["model.onnx", "schema.json"], signed=True)
    with pytest.raises(Refused, match=r"unexpected \['../evil'\]"):
        check_names(["model.onnx", "schema.json", "model.sig", "../evil"], signed=True)


@pytest.mark.parametrize("path", ["bundle/../evil.onnx", "elsewhere/model.onnx", "../bundle/x", "/etc/passwd"])
def test_a_listing_that_leads_out_of_its_folder(path: str) -> None:
    registry = Registry("sqlite://")
    item = SimpleNamespace(path=path, is_dir=False, file_size=1)
    registry.__dict__["client"] = SimpleNamespace(list_artifacts=lambda *_: [item])
    with pytest.raises(Refused, match="leads out of bundle/"):
        registry.names("0" * 32, "bundle")


@pytest.mark.parametrize(("listed", "told"), [(["bundle/model.onnx"], Accident), ([], Refused)])
def test_what_is_listed_and_can_t_be_fetched_is_no_refusal(listed: list[str], told: type[Exception]) -> None:
    """Whatever stops a download, MLflow's client says that the path is wrong."""

    def download(*_: str) -> str:
        raise MlflowException("Failed to download artifacts", error_code=RESOURCE_DOES_NOT_EXIST)

    registry = Registry("sqlite://")
    registry.__dict__["client"] = SimpleNamespace(download_artifacts=download, list_artifacts=lambda *_: listed)
    with pytest.raises(told, match=r"bundle/ of run 000"):
        registry.download("0" * 32, "bundle", Path("unused"))


def test_every_tampering_is_noticed(folder: Path, tmp_path: Path) -> None:
    """F9: 200 changes of one byte, a file added, one removed, and a path that leads out."""
    private, public = generate_keys(tmp_path / "keys")
    sign(folder, private)
    digest, key = digest_of(folder), public.read_bytes()
    verify_artifact(folder, digest, key)
    generator, refused = random.Random(9), 0
    files = [folder / "model.onnx", folder / "schema.json"]
    for index in range(200):
        path = files[index % 2]
        good = path.read_bytes()
        at = generator.randrange(len(good))
        path.write_bytes(good[:at] + bytes([good[at] ^ generator.randrange(1, 256)]) + good[at + 1 :])
        with pytest.raises(ArtifactError):
            verify_artifact(folder, digest, key)
        refused += 1
        path.write_bytes(good)
    verify_artifact(folder, digest, key)
    for spoil in (
        lambda copy: (copy / "extra").write_bytes(b"x"),
        lambda copy: (copy / "schema.json").unlink(),
        lambda copy: (copy / "evil").symlink_to("../../keys"),
    ):
        copy = tmp_path / f"copy-{refused}"
        shutil.copytree(folder, copy)
        spoil(copy)
        with pytest.raises(ArtifactError):
            verify_artifact(copy, digest, key)
        refused += 1
    assert refused == 203


def test_a_signature_of_what_was_changed_does_not_help(folder: Path, tmp_path: Path) -> None:
    private, public = generate_keys(tmp_path / "keys")
    other, _ = generate_keys(tmp_path / "other")
    digest = digest_of(folder)
    sign(folder, private)
    (folder / "model.onnx").write_bytes(graph(weights=WEIGHTS + 1).SerializeToString())
    sign(folder, private)
    with pytest.raises(ArtifactError, match="the release names"):
        verify_artifact(folder, digest, public.read_bytes())
    sign(folder, other)
    with pytest.raises(ArtifactError, match="not made with a key"):
        verify_artifact(folder, digest_of(folder), public.read_bytes())


def test_keys_are_private_and_never_replaced(folder: Path, tmp_path: Path) -> None:
    private, _ = generate_keys(tmp_path / "keys")
    assert private.stat().st_mode & 0o077 == 0
    with pytest.raises(Refused, match="exists"):
        generate_keys(tmp_path / "keys")
    private.write_text("no key")
    with pytest.raises(Refused, match="cannot sign with it"):
        sign(folder, private)


def holdout(rows: int = 300, **columns: Any) -> Holdout:
    wind = np.linspace(-1, 1, rows)
    x = np.column_stack([wind, np.zeros(rows)]).astype(np.float32)
    z = np.exp(x @ WEIGHTS)
    native = z / z.sum(axis=1, keepdims=True)
    table = {
        "wind": wind.tolist(),
        "carrier": ["UA"] * rows,
        "truth": ["no", "yes"] * (rows // 2),
        "native_no": native[:, 0].tolist(),
        "native_yes": native[:, 1].tolist(),
    }
    return Holdout(pa.table({name: values for name, values in (table | columns).items() if values is not None}))


def test_parity(folder: Path) -> None:
    bundle = open_bundle(folder, "toy")
    assert parity(bundle, holdout(), 10_000).rows == 300
    assert parity(bundle, holdout(), 10_000).largest < 1e-6
    assert parity(bundle, holdout(20_000), 10_000).rows == 10_000
    assert np.isnan(parity(bundle, holdout(native_no=[float("nan")] * 300), 100).largest)
    assert parity(bundle, holdout(native_no=[2.0] * 300), 100).largest > 1


def test_rows_of_another_model() -> None:
    matrix = holdout(carrier=None).encode(SCHEMA)
    assert np.isnan(matrix[:, 1]).all(), "an optional field that is not there is not known"
    with pytest.raises(Inconclusive, match="the columns wind are missing"):
        holdout(wind=None).encode(SCHEMA)
    with pytest.raises(Refused, match="truth holds"):
        holdout(truth=["maybe"] * 300).truth(SCHEMA)
    with pytest.raises(Refused, match="'native_yes' is missing"):
        holdout(native_yes=None).native(SCHEMA)
    regression = SCHEMA.model_copy(
        update={"output": SCHEMA.output.model_copy(update={"task": "regression", "labels": ()})}
    )
    assert holdout(truth=[1.5] * 300).truth(regression).tolist() == [1.5] * 300
    assert holdout(native_value=[2.5] * 300).native(regression).shape == (300, 1)


def test_files_that_are_no_holdout(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("rows")
    with pytest.raises(Refused, match="cannot be read"):
        read_holdout(tmp_path / "text.parquet")
    pq.write_table(pa.table({"truth": np.zeros(5_000_001, np.int8)}), tmp_path / "many.parquet")
    assert (tmp_path / "many.parquet").stat().st_size < 20_000
    with pytest.raises(Refused, match="5,000,001 rows; nobody is judged on more than 5,000,000"):
        read_holdout(tmp_path / "many.parquet")
    pq.write_table(pa.table({"truth": []}), tmp_path / "empty.parquet")
    with pytest.raises(Refused, match="no rows"):
        read_holdout(tmp_path / "empty.parquet")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", r"refers to parts of itself \(`\*name`\)"),
        ("a: &a [*a]\n", "refers to parts of itself"),
        ("[" * 3000, "not readable as YAML"),
        ("a: 2020-99-99\n", "not readable as YAML"),
        ("- a\n", "expected sections with their text, got list"),
    ],
)
def test_cards_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "card.yaml").write_text(text)
    with pytest.raises(Refused, match=f"^card.yaml: .*{said}"):
        evaluation._read_card(tmp_path / "card.yaml")


def test_where_a_bundle_is() -> None:
    assert bundle_uri("mlflow-artifacts:/1/r/artifacts") == "mlflow-artifacts:/1/r/artifacts/bundle"
    assert bundle_uri("s3://bucket/1/r/artifacts/") == "s3://bucket/1/r/artifacts/bundle"
    assert bundle_uri("/srv/ml runs/1") == "file:///srv/ml%20runs/1/bundle"
