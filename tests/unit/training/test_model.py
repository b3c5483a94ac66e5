"""A model's folder: what is wrong in it is said with file and line, in one line, as a person's mistake."""

import dataclasses
import sys

import pytest

from plumbline.training.model import ModelError, Source, load
from plumbline.training.prepare import assemble


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'NAMES = ("sepal_length"',
            'NAMES = ("sepal length (cm)"',
            r"\d: name: a field's name .* such as 'sepal_length_cm'",
        ),
        ('type="number"', 'type="float"', r"type: Input should be 'number', 'integer', .* \(got 'float'\)"),
        ('type="number"', 'kind="number"', "kind: Extra inputs are not permitted; expected one of name, type, "),
        ("example=3.0", 'example="3.0"', r"\d: sepal_length: the example '3.0' is not a number"),
        ('"setosa", ', '"virginica", ', "labels: one of 'virginica', .* stands twice"),
        ('"virginica")', '"virginica"', "'\\(' was never closed"),
        ("split=ByShare()", "split=ByShare(validation=0.9)", "split: shares must be above 0"),
        ("split=ByShare()", "split=ByShare(valid=0.9)", "TypeError: .*unexpected keyword argument 'valid'"),
        ("import pandas as pd", "import pands as pd", "ModuleNotFoundError: No module named 'pands'"),
        ('task="multiclass"', 'task="binary"', "labels: a binary output has 2 labels, not 3"),
        (
            "split=ByShare()",
            "split=ByShare(), costs={'rose': {'setosa': 1}}",
            "costs: unknown label 'rose'; expected setosa",
        ),
        (
            "split=ByShare()",
            "split=ByShare(), costs={'setosa': 1}",
            "costs: expected {true label: {answered label: cost}}",
        ),
        ("split=ByShare()", "split=ByShare(), costs={'setosa': {'virginica': -1}}", "costs are finite, not below 0"),
        (
            "split=ByShare()",
            "split=ByShare(), metrics=('recall_at_precision_0.9',)",
            "such as <label>_recall_at_precision",
        ),
        ("    cluster=None,\n", "", "cluster: found nothing; expected the column of rows"),
        ("MODEL = Model(", "MODEL = dict(", r"expected MODEL = Model\(…\), found"),
    ],
)
def test_a_mistake_in_a_model_is_one_line_with_its_place(iris, old, new, message):
    path = iris / "__init__.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    sys.modules.pop("plumbline.training.models.iris", None)
    with pytest.raises(ModelError, match=message) as refusal:
        load("iris")
    assert str(refusal.value).startswith(f"{path}:")
    assert "\n" not in str(refusal.value)


def test_a_mistake_in_rows_is_one_line_with_its_place(iris):
    with pytest.raises(ModelError, match=r"iris/__init__.py:\d+: KeyError: 'irises'$"):
        assemble(load("iris"), {})


def test_a_field_may_have_the_name_that_its_data_have(iris):
    path = iris / "__init__.py"
    path.write_text(path.read_text().replace('"sepal_length"', '"SepalLength"'))
    sys.modules.pop("plumbline.training.models.iris", None)
    assert load("iris").schema.fields[0].name == "SepalLength"


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ({}, "sources: weather must stand in both"),
        ({"weather": None, "whether": None}, "sources: whether must stand in both"),
        ({"weather": Source(tables=("rain",))}, r"sources, weather: tables: found \['rain'\], expected some of"),
        ({"weather": Source(tables=())}, r"sources, weather: tables: found \(\), expected some of"),
        ({"weather": Source(tables=("weather",), year=13)}, "sources, weather: place is a text and year one from 1900"),
    ],
)
def test_each_view_declares_its_source(sources, said):
    with pytest.raises(ModelError, match=said):
        dataclasses.replace(load("flights"), sources=sources)


def test_that_something_else_fills_a_view_is_said():
    assert dataclasses.replace(load("flights"), sources={"weather": None}).sources == {"weather": None}
