"""Conversion to the ONNX contract, and what it refuses."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from onnx import TensorProto, helper
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier, XGBRegressor
from xgboost.callback import EarlyStopping

from plumbline.core.schema import ModelSchema, Output, SchemaField
from plumbline.training import convert, converters, learn
from plumbline.training.converters import ConvertError
from plumbline.training.model import Examples, Model

FIELDS = 4
NAMES = [f"f{number}" for number in range(FIELDS)]


PLAIN = cast(Model, SimpleNamespace(to_onnx=None))


def schema_of(task, classes=0):
    labels = tuple(f"label{number}" for number in range(classes))
    return ModelSchema(
        model="m",
        fields=tuple(SchemaField(name=name, type="number", description=name, example=1.0) for name in NAMES),
        output=Output(task=task, name="y", description="Y", labels=labels),
    )


def examples(task, classes, seed=0, rows=400):
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(rows, FIELDS)).astype(np.float32)
    signal = inputs[:, 0] + inputs[:, 1] ** 2
    inputs[generator.uniform(size=inputs.shape) < 0.1] = np.nan
    if task == "regression":
        return Examples(inputs, signal.astype(np.float64))
    return Examples(inputs, np.digitize(signal, np.quantile(signal, np.arange(1, classes) / classes)).astype(float))


def stopping(kind, **parameters):
    return kind(n_estimators=80, callbacks=[EarlyStopping(rounds=5, save_best=True)], n_jobs=1, **parameters)


def imputed(last):
    return make_pipeline(SimpleImputer(), StandardScaler(), last)


QUIET: dict[str, Any] = {"verbosity": -1, "n_jobs": 1}
CASES = {
    "hist boosting, two classes": (lambda: HistGradientBoostingClassifier(max_iter=20), "binary", 2),
    "hist boosting, value": (lambda: HistGradientBoostingRegressor(max_iter=20), "regression", 0),
    "xgboost in a pipeline, three classes": (lambda: imputed(XGBClassifier(n_estimators=5)), "multiclass", 3),
    "xgboost in a pipeline, value": (lambda: imputed(XGBRegressor(n_estimators=5)), "regression", 0),
    "xgboost, two classes": (lambda: stopping(XGBClassifier), "binary", 2),
    "xgboost, no split in the first tree": (lambda: XGBClassifier(n_estimators=2, min_child_weight=1e9), "binary", 2),
    "xgboost, three classes": (lambda: stopping(XGBClassifier), "multiclass", 3),
    "xgboost, value": (lambda: stopping(XGBRegressor), "regression", 0),
    "lightgbm, two classes": (lambda: LGBMClassifier(n_estimators=20, **QUIET), "binary", 2),
    "lightgbm, no split in any tree": (lambda: LGBMClassifier(min_child_samples=999, **QUIET), "binary", 2),
    "lightgbm, value": (lambda: LGBMRegressor(n_estimators=20, **QUIET), "regression", 0),
    "lightgbm in a pipeline, three classes": (lambda: imputed(LGBMClassifier(**QUIET)), "multiclass", 3),
    "scikit-learn, two classes": (lambda: imputed(LogisticRegression()), "binary", 2),
    "scikit-learn, three classes": (lambda: imputed(LogisticRegression()), "multiclass", 3),
    "scikit-learn, value": (lambda: imputed(Ridge()), "regression", 0),
    "scikit-learn, trees": (lambda: make_pipeline(SimpleImputer(), GradientBoostingRegressor()), "regression", 0),
}


@pytest.mark.parametrize("case", CASES)
def test_the_onnx_file_answers_as_the_native_model_and_keeps_the_contract(case, tmp_path):
    make, task, classes = CASES[case]
    schema, estimator = schema_of(task, classes), make()
    train, later = examples(task, classes), examples(task, classes, seed=1)
    learn.fit(estimator, train, later, schema.output)
    converted = convert.to_onnx(PLAIN, estimator, schema)
    again = convert.to_onnx(PLAIN, estimator, schema)
    assert converted.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    path = tmp_path / "model.onnx"
    path.write_bytes(converted.SerializeToString(deterministic=True))
    native = learn.outputs_of(estimator, later.inputs, schema.output)
    assert native.shape == (400, classes or 1)
    assert convert.check("It", path, schema, later.inputs, native) < 1e-5
    with pytest.raises(ConvertError, match="beside the native model"):
        convert.check("It", path, schema, later.inputs, native + 0.01)


@pytest.mark.parametrize("scaler", [StandardScaler, MaxAbsScaler, MinMaxScaler])
def test_trees_behind_a_scaler_split_the_rows_that_they_were_grown_on_as_before(scaler, tmp_path):
    schema, estimator = schema_of("binary", 2), make_pipeline(scaler(), XGBClassifier(n_estimators=10))
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, 60, size=(900, FIELDS)).astype(np.float32)
    rows = Examples(inputs, ((inputs[:, 0] > 30) ^ (generator.uniform(size=900) < 0.2)).astype(float))
    learn.fit(estimator, rows, rows, schema.output)
    path = tmp_path / "model.onnx"
    path.write_bytes(convert.to_onnx(PLAIN, estimator, schema).SerializeToString())
    native = learn.outputs_of(estimator, rows.inputs, schema.output)
    assert convert.check("It", path, schema, rows.inputs, native) < 1e-5


@pytest.mark.parametrize(
    "make",
    [lambda: stopping(XGBClassifier), lambda: imputed(LogisticRegression()), lambda: LGBMClassifier(**QUIET)],
)
def test_an_estimator_survives_the_way_to_the_next_step(make, tmp_path):
    schema, estimator = schema_of("binary", 2), make()
    train, later = examples("binary", 2), examples("binary", 2, seed=1)
    learn.fit(estimator, train, later, schema.output)
    learn.save(estimator, tmp_path / "kept")
    restored = learn.restore(tmp_path / "kept", make())
    before, after = (learn.outputs_of(each, later.inputs, schema.output) for each in (estimator, restored))
    np.testing.assert_array_equal(after, before)


def test_a_file_with_other_inputs_breaks_the_contract(tmp_path):
    schema = schema_of("regression")
    estimator = imputed(Ridge())
    train = examples("regression", 0)
    learn.fit(estimator, train, train, schema.output)
    path = tmp_path / "model.onnx"
    path.write_bytes(convert.to_onnx(PLAIN, estimator, schema).SerializeToString())
    wider = schema_of("binary", 2)
    with pytest.raises(ConvertError, match=r"its outputs are .*'value'.* expected 'probabilities'"):
        convert.check("It", path, wider, train.inputs, train.target)


class Mean:
    """A baseline of any task: equal chances, or 0."""

    def fit(self, _, y):
        self.classes = len(np.unique(y))

    def predict(self, x):
        return np.zeros(len(x))

    def predict_proba(self, x):
        return np.full((len(x), self.classes), 1 / self.classes)


def planned(candidate, baseline=Mean):
    return cast(
        Model,
        SimpleNamespace(to_onnx=None, baseline=lambda _: baseline(), candidate=lambda *_: candidate(), defaults={}),
    )


def own(build):
    return cast(Model, SimpleNamespace(to_onnx=lambda *_: build))


def graph_of(nodes, inputs, outputs):
    """A model of somebody's own exporter."""
    graph = helper.make_graph(nodes, "theirs", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def floats(name, *shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def test_a_model_may_bring_a_conversion_with_names_rows_and_types_of_its_own(tmp_path):
    """As an exporter writes it that fixes the rows of its example, and answers doubles without a second axis."""
    nodes = [
        helper.make_node("Cast", ["x"], ["value"], to=TensorProto.DOUBLE),
        helper.make_node("Constant", [], ["axes"], value=helper.make_tensor("a", TensorProto.INT64, [1], [1])),
        helper.make_node("ReduceSum", ["value", "axes"], ["total"], keepdims=0),
    ]
    theirs = graph_of(nodes, [floats("x", 1, FIELDS)], [floats("total", 1, kind=TensorProto.DOUBLE)])
    schema, inputs = schema_of("regression"), np.nan_to_num(examples("regression", 0).inputs)
    path = tmp_path / "model.onnx"
    path.write_bytes(convert.to_onnx(own(theirs), object(), schema).SerializeToString())
    assert convert.check("It", path, schema, inputs, inputs.astype(np.float64).sum(axis=1, keepdims=True)) < 1e-5


def test_an_old_export_that_ends_in_a_map_of_labels_is_served_as_its_probabilities(tmp_path):
    """As CatBoost writes it: a label, and {label: probability}, in a version of the format of 2017."""
    nodes = [
        helper.make_node("Softmax", ["x"], ["tensor"], axis=1),
        helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
        helper.make_node(
            "ZipMap", ["tensor"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=range(FIELDS)
        ),
    ]
    a_map = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    label = floats("label", None, kind=TensorProto.INT64)
    maps = helper.make_value_info("probabilities", helper.make_sequence_type_proto(a_map))
    theirs = graph_of(nodes, [floats("x", None, FIELDS)], [label, maps])
    theirs.ir_version = 3
    theirs.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    schema, inputs = schema_of("multiclass", FIELDS), np.zeros((3, FIELDS), dtype=np.float32)
    path = tmp_path / "model.onnx"
    path.write_bytes(convert.to_onnx(own(theirs), object(), schema).SerializeToString())
    assert convert.check("It", path, schema, inputs, np.full((3, FIELDS), 0.25)) == 0


def test_a_column_of_values_is_made_of_an_old_export_of_trees_alone_too(tmp_path):
    """As CatBoost writes a regression: one tree of one leaf here, nothing of ONNX's own operators."""
    leaf: dict[str, Any] = {"nodes_treeids": [0], "nodes_nodeids": [0], "nodes_featureids": [0], "nodes_values": [0.0]}
    leaf |= {"nodes_modes": ["LEAF"], "nodes_truenodeids": [0], "nodes_falsenodeids": [0]}
    leaf |= {"target_treeids": [0], "target_nodeids": [0], "target_ids": [0], "target_weights": [4.0]}
    trees = helper.make_node("TreeEnsembleRegressor", ["x"], ["total"], domain="ai.onnx.ml", n_targets=1, **leaf)
    theirs = graph_of([trees], [floats("x", None, FIELDS)], [floats("total", None)])
    theirs.ir_version = 3
    theirs.opset_import[0].CopyFrom(helper.make_opsetid("ai.onnx.ml", 2))
    schema, inputs = schema_of("regression"), np.ones((3, FIELDS), dtype=np.float32)
    path = tmp_path / "model.onnx"
    path.write_bytes(convert.to_onnx(own(theirs), object(), schema).SerializeToString())
    assert convert.check("It", path, schema, inputs, np.full((3, 1), 4.0)) == 0


def test_a_branch_within_reads_the_input_under_its_new_name(tmp_path):
    branch = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["inner"], axis=1)], "b", [], [floats("inner", None, FIELDS)]
    )
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True])),
        helper.make_node("If", ["yes"], ["scores"], then_branch=branch, else_branch=branch),
    ]
    theirs = graph_of(nodes, [floats("x", None, FIELDS)], [floats("scores", None, FIELDS)])
    schema, inputs = schema_of("multiclass", FIELDS), np.zeros((3, FIELDS), dtype=np.float32)
    path = tmp_path / "model.onnx"
    path.write_bytes(convert.to_onnx(own(theirs), object(), schema).SerializeToString())
    assert convert.check("It", path, schema, inputs, np.full((3, FIELDS), 0.25)) == 0


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (b"bytes", "to_onnx gave bytes, expected onnx.ModelProto"),
        (
            graph_of(
                [helper.make_node("Add", ["x", "z"], ["y"])],
                [floats("x", None, FIELDS), floats("z", None, FIELDS)],
                [floats("y", None, FIELDS)],
            ),
            r"its inputs are \['x', 'z'\], expected one",
        ),
        (
            graph_of(
                [helper.make_node(name, ["x"], [name]) for name in ("Exp", "Log")],
                [floats("x", None, FIELDS)],
                [floats(name, None, FIELDS) for name in ("Exp", "Log")],
            ),
            r"its outputs are Exp, Log, expected 'value', float32 of shape \(rows, 1\)",
        ),
        (
            graph_of([helper.make_node("Guess", ["x"], ["y"])], [floats("x", None, FIELDS)], [floats("y", None, 1)]),
            "No Op registered for Guess",
        ),
    ],
)
def test_a_conversion_that_cannot_be_served_is_refused_in_one_line(theirs, message):
    with pytest.raises(ConvertError, match=f"^Lasso cannot be converted to ONNX: .*{message}") as refusal:
        convert.to_onnx(own(theirs), Lasso(), schema_of("regression"))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    ("make", "task", "classes", "message"),
    [
        (
            lambda: imputed(DummyClassifier()),
            "binary",
            2,
            r"Pipeline\(SimpleImputer, StandardScaler, DummyClassifier\)",
        ),
        (lambda: LinearDiscriminantAnalysis(), "binary", 2, "LinearDiscriminantAnalysis.*(missing values|NaN)"),
        (
            lambda: imputed(LinearDiscriminantAnalysis()),
            "binary",
            2,
            "DiscriminantAnalysis.*beside the native",
        ),
        (lambda: imputed(SVC()), "multiclass", 3, r"SVC\), tried on 200 rows before the search: .*predict_proba"),
        (
            lambda: LGBMClassifier(boosting_type="rf", bagging_freq=1, bagging_fraction=0.5, **QUIET),
            "binary",
            2,
            "LGBMClassifier.*beside the native",
        ),
        (lambda: imputed(LogisticRegression()), "regression", 0, "LogisticRegression.*Unknown label type"),
        (lambda: imputed(FunctionTransformer(lambda x: x)), "regression", 0, "FunctionTransformer"),
    ],
)
def test_what_cannot_be_served_is_refused_before_the_search(make, task, classes, message):
    model = planned(make)
    schema, rows = schema_of(task, classes), examples(task, classes)
    with pytest.raises(ConvertError, match=message) as refusal:
        convert.rehearse(model, schema, rows, examples(task, classes, seed=1))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 600


def test_a_baseline_that_cannot_be_fitted_is_refused_before_the_search_too():
    model = planned(lambda: imputed(Ridge()), baseline=Ridge)
    rows = examples("regression", 0)
    with pytest.raises(ConvertError, match=r"^Ridge, tried on 200 rows before the search: ValueError: Input X"):
        convert.rehearse(model, schema_of("regression"), rows, rows)


def test_a_rare_label_is_among_the_rehearsed_rows():
    model = planned(lambda: stopping(XGBClassifier))
    rows = examples("multiclass", 3, rows=5000)
    target = np.where(np.arange(5000) < 4997, rows.target % 2, 2)
    rows = Examples(rows.inputs, target)
    assert convert.rehearse(model, schema_of("multiclass", 3), rows, rows) < 1e-5


def test_the_parity_of_values_is_a_share_of_their_spread(tmp_path):
    """Prices in dollars: float32 holds seven digits, so an absolute limit would depend on the unit."""
    schema, rows = schema_of("regression"), examples("regression", 0)
    dollars = Examples(rows.inputs, 250_000 + 90_000 * rows.target)
    estimator = imputed(Ridge())
    learn.fit(estimator, dollars, dollars, schema.output)
    path = tmp_path / "model.onnx"
    path.write_bytes(convert.to_onnx(PLAIN, estimator, schema).SerializeToString())
    native = learn.outputs_of(estimator, dollars.inputs, schema.output)
    assert 1e-4 < convert.check("It", path, schema, dollars.inputs, native) < 1
    with pytest.raises(ConvertError, match=r"expected no more than .* of the values' spread"):
        convert.check("It", path, schema, dollars.inputs, native + 0.001 * native.std())


@pytest.mark.parametrize(("module", "package"), [("torch.nn", "torch"), ("keras.models", "tensorflow")])
def test_a_known_kind_whose_library_is_not_installed_is_named(module, package):
    foreign = type("Net", (), {"__module__": module})()
    with pytest.raises(ConvertError, match=f"Net needs the package {package}, which is not installed"):
        convert.to_onnx(PLAIN, foreign, schema_of("regression"))


@pytest.mark.parametrize(("module", "library"), [("torch.nn", "torch"), ("catboost.core", "catboost.core")])
def test_a_kind_without_a_converter_asks_for_a_conversion(module, library, monkeypatch):
    monkeypatch.setitem(converters.FLAVOURS, "torch", ("numpy", "mlflow.pytorch"))
    message = f"{library} has no converter here, only xgboost, lightgbm, sklearn have; define to_onnx"
    with pytest.raises(ConvertError, match=message):
        convert.to_onnx(PLAIN, type("Net", (), {"__module__": module})(), schema_of("regression"))


def test_an_unknown_kind_has_no_library():
    assert converters.library_of(object()) is None
