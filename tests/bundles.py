"""Small models as promotion leaves them: model.onnx, schema.json, model.sig, and a release.yaml that names them."""

import json
import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plumbline.core.artifact import MODEL, SCHEMA, digest_of
from plumbline.core.dsse import seal
from plumbline.core.release import Release, read_release
from plumbline.core.schema import ModelSchema, Output, SchemaField, View
from plumbline.core.stated import statement_name, statement_of

Kind = Literal["binary", "multiclass", "regression", "slow", "mixing"]
ROWS = 400

FIELDS = (
    SchemaField(
        name="distance", type="number", description="How far", example=1400.0, unit="mi", minimum=0, maximum=6000
    ),
    SchemaField(name="hour", type="integer", description="Hour of departure", example=17, minimum=0, maximum=23),
    SchemaField(
        name="carrier", type="category", description="Who flies", example="UA", vocabulary=("AA", "DL", "UA", "WN")
    ),
    SchemaField(
        name="origin",
        type="category",
        description="From where",
        example="JFK",
        required=False,
        vocabulary=("EWR", "JFK"),
    ),
    SchemaField(name="wind", type="number", description="Wind speed", example=12.5, unit="mph", required=False),
)
WEATHER = View(name="weather", entity=("origin", "hour"), fields=("wind",), max_age_seconds=3600)
OUTPUTS: dict[Kind, Output] = {
    "binary": Output(task="binary", name="late", description="Arrives late", labels=("on-time", "late")),
    "multiclass": Output(task="multiclass", name="class", description="How late", labels=("none", "some", "much")),
    "regression": Output(task="regression", name="delay", description="Delay", unit="min"),
    "slow": Output(task="regression", name="delay", description="Delay", unit="min"),
    "mixing": Output(task="regression", name="delay", description="Delay", unit="min"),
}


@dataclass(frozen=True)
class Keys:
    """An ECDSA P-256 key pair in PEM files."""

    private: Path
    public: Path


@dataclass(frozen=True)
class Bundle:
    """A signed artifact and what its release says of it."""

    folder: Path
    schema: ModelSchema
    keys: Keys
    version: str = "v1.0.0"
    threshold: float | None = None

    @property
    def digest(self) -> str:
        """Of the bytes alone: what was signed of a version may stand beside them."""
        with TemporaryDirectory() as folder:
            for name in (MODEL, SCHEMA):
                shutil.copy(self.folder / name, folder)
            return digest_of(Path(folder))

    def release(self, path: Path, **artifact: str) -> Path:
        """Write a release.yaml that serves this bundle from its folder, or with other values of `artifact`.

        What registration would have signed of the version is put beside the bytes, where those stand in a folder.
        """
        document: dict[str, Any] = {
            "apiVersion": "plumbline.dev/v1",
            "kind": "Release",
            "metadata": {"name": self.schema.model, "annotations": {"config.kubernetes.io/local-config": "true"}},
            "spec": {
                "version": self.version,
                "image": "registry.test/plumbline/serving@sha256:" + "0" * 64,
                "artifact": {
                    "uri": self.folder.as_uri(),
                    "digest": self.digest,
                    "schemaDigest": self.schema.digest(),
                }
                | artifact,
                "threshold": self.threshold,
                "lineage": {
                    "registryVersion": "1",
                    "run": "0" * 32,
                    "code": "0" * 40,
                    "data": "sha256:" + "0" * 64,
                },
                "evidence": {"gate": "sha256:" + "0" * 64},
            },
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        uri = urlsplit(document["spec"]["artifact"]["uri"])
        if uri.scheme == "file" and (folder := Path(uri.path)).is_dir():
            state(read_release(path), folder, self.keys)
        return path

    def with_threshold(self, threshold: float) -> "Bundle":
        """The same model under another threshold."""
        return replace(self, threshold=threshold)


def make_keys(folder: Path) -> Keys:
    """A new key pair."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    keys = Keys(folder / "key.pem", folder / "key.pub")
    keys.private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    keys.public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return keys


def sign(folder: Path, keys: Keys) -> None:
    """Sign a folder with the tool that registration signs with."""
    from plumbline.promotion.registry.signing import sign

    sign(folder, keys.private)


def state(release: Release, folder: Path, keys: Keys, **other: str) -> Path:
    """Write what registration signs of a version into a folder: all that a release says of it, or `other` facts."""
    spec = release.spec
    facts = {
        "name": release.model,
        "semver": str(spec.version),
        "digest": spec.artifact.digest,
        "schema.digest": spec.artifact.schemaDigest,
        "threshold": "" if spec.threshold is None else repr(spec.threshold),
        "number": spec.lineage.registryVersion,
        "run": spec.lineage.run,
        "code.commit": spec.lineage.code,
        "data.digest": spec.lineage.data,
        "workflow": spec.lineage.workflow,
    }
    path = folder / statement_name(spec.version)
    path.write_text(json.dumps(seal(statement_of(facts | other), keys.private.read_bytes())))
    return path


def logged_rows(event: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an event of the prediction log, by name and without what is missing."""
    named = (zip(event["columns"], row, strict=True) for row in event["data"])
    return [{name: value for name, value in row if value is not None} for row in named]


def schema_of(kind: Kind, *, views: bool = False) -> ModelSchema:
    """The schema of one of the models; with `views`, the wind comes from the online store where a caller has none."""
    name = "delays" if kind == "binary" else f"delays-{kind}"
    return ModelSchema(model=name, fields=FIELDS, output=OUTPUTS[kind], views=(WEATHER,) if views else ())


def make_bundle(
    folder: Path,
    keys: Keys,
    kind: Kind = "binary",
    *,
    views: bool = False,
    seed: int = 0,
    schema: ModelSchema | None = None,
) -> Bundle:
    """Train, convert and sign one of the models; another `seed` is another model, with another digest."""
    schema = schema or schema_of(kind, views=views)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model_bytes(kind, seed))
    (folder / "schema.json").write_text(schema.to_json())
    sign(folder, keys)
    return Bundle(folder, schema, keys, threshold=0.4 if kind == "binary" else None)


@cache
def model_bytes(kind: Kind, seed: int = 0) -> bytes:
    """The ONNX bytes of one of the models."""
    if kind == "mixing":
        return _mixing()
    matrix, signal = _data(seed)
    return _slow(_trees(matrix, signal, "regression")) if kind == "slow" else _trees(matrix, signal, kind)


def _data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    columns = [
        generator.uniform(0, 6000, ROWS),
        generator.integers(0, 24, ROWS),
        generator.integers(0, 4, ROWS),
        generator.integers(0, 2, ROWS),
        generator.uniform(0, 40, ROWS),
    ]
    matrix = np.stack(columns, axis=1).astype(np.float32)
    signal = matrix[:, 1] + matrix[:, 4] / 2 + 3 * matrix[:, 2] + generator.normal(0, 3, ROWS)
    return matrix, signal


def _trees(matrix: np.ndarray, signal: np.ndarray, kind: Kind) -> bytes:
    """Gradient boosting of 20 trees."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    if kind == "regression":
        return to_onnx(GradientBoostingRegressor(n_estimators=20, random_state=0).fit(matrix, signal))
    edges = np.quantile(signal, [0.5] if kind == "binary" else [0.4, 0.8])
    return to_onnx(GradientBoostingClassifier(n_estimators=20, random_state=0).fit(matrix, np.digitize(signal, edges)))


def to_onnx(model: Any) -> bytes:
    """A fitted scikit-learn model, converted to the contract: one float32 matrix in, one output."""
    import onnx
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.base import is_classifier

    classifier = is_classifier(model)
    inputs = [("features", FloatTensorType([None, model.n_features_in_]))]
    options = {id(model): {"zipmap": False}} if classifier else None
    converted = convert_sklearn(model, initial_types=inputs, target_opset=17, options=options)
    kept, name = converted.graph.output[int(classifier)].name, "probabilities" if classifier else "value"
    outputs = [item for item in converted.graph.output if item.name == kept]
    del converted.graph.output[:]
    converted.graph.output.extend(outputs)
    for node in converted.graph.node:
        for index, output in enumerate(node.output):
            if output == kept:
                node.output[index] = name
    converted.graph.output[0].name = name
    onnx.checker.check_model(converted)
    return converted.SerializeToString()


def _slow(fast: bytes, copies: int = 800) -> bytes:
    """The mean of many slightly shifted copies of a tree ensemble: more than a millisecond a row, and still exact."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(fast)
    (node,) = (node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
    nodes, constants = [], [numpy_helper.from_array(np.array([copies], np.float32), "copies")]
    for index in range(copies):
        constants.append(numpy_helper.from_array(np.array([index / copies], np.float32), f"shift{index}"))
        nodes.append(helper.make_node("Add", ["features", f"shift{index}"], [f"shifted{index}"]))
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        copied.name, copied.input[0], copied.output[0] = f"trees{index}", f"shifted{index}", f"part{index}"
        nodes.append(copied)
    nodes.append(helper.make_node("Sum", [f"part{index}" for index in range(copies)], ["sum"]))
    nodes.append(helper.make_node("Div", ["sum", "copies"], ["value"]))
    graph = helper.make_graph(nodes, "slow", model.graph.input, model.graph.output, constants)
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return made.SerializeToString()


def _mixing() -> bytes:
    """A model whose answer to a row depends on the rows beside it: it must never be batched."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["features", "mean"], ["centred"]),
        helper.make_node("ReduceMean", ["centred"], ["value"], axes=[1], keepdims=1),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, len(FIELDS)])]
    outputs = [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])]
    graph = helper.make_graph(nodes, "mixing", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
