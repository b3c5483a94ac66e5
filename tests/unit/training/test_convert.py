"""Conversion to the ONNX contract, and what it refuses."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import onnx
import pytest
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier, XGBRegressor
from xgboost.callback import EarlyStopping

from plumbline.core.schema import ModelSchema, Output, SchemaField
from plumbline.training import convert, learn
from plumbline.training.convert import ConvertError
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


CASES = {
    "xgboost, two classes": (lambda: stopping(XGBClassifier), "binary", 2),
    "xgboost, three classes": (lambda: stopping(XGBClassifier), "multiclass", 3),
    "xgboost, value": (lambda: stopping(XGBRegressor), "regression", 0),
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
    assert convert.check(path, schema, later.inputs, native) < 1e-5
    with pytest.raises(ConvertError, match="outputs differ by"):
        convert.check(path, schema, later.inputs, native + 0.01)


@pytest.mark.parametrize("make", [lambda: stopping(XGBClassifier), lambda: imputed(LogisticRegression())])
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
        convert.check(path, wider, train.inputs, train.target)


def test_a_model_may_bring_its_own_conversion():
    mine = onnx.ModelProto(producer_name="mine")
    own = cast(Model, SimpleNamespace(to_onnx=lambda *_: mine))
    assert convert.to_onnx(own, object(), schema_of("regression")) is mine


@pytest.mark.parametrize(("module", "package"), [("torch.nn", "torch"), ("keras.models", "tensorflow")])
def test_a_known_kind_whose_library_is_not_installed_is_named(module, package):
    foreign = type("Net", (), {"__module__": module})()
    with pytest.raises(ConvertError, match=f"Net needs the package {package}, which is not installed"):
        convert.to_onnx(PLAIN, foreign, schema_of("regression"))


def test_a_kind_that_is_logged_but_not_converted_asks_for_a_conversion(monkeypatch):
    monkeypatch.setitem(convert.FLAVOURS, "torch", ("numpy", "mlflow.pytorch"))
    with pytest.raises(ConvertError, match="torch: logged as it is, but not converted; define to_onnx in m's folder"):
        convert.to_onnx(PLAIN, type("Net", (), {"__module__": "torch.nn"})(), schema_of("regression"))


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConvertError, match="object is of no known library; expected one of xgboost, sklearn"):
        convert.library_of(object())
