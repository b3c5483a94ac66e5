"""A model's folder: what is wrong in it is said with file and line, in one line, as a person's mistake."""

import dataclasses
import sys

import pytest

from plumbline.core.schema import ModelSchema, SchemaField, View
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
        ("split=ByShare()", "split=0.2", r"split: found 0.2, expected ByTime\(…\) or ByShare\(…\)"),
        ("split=ByShare()", "split=ByShare(seed=-1)", r"seed=-1\), expected ByTime\(…\) or ByShare\(…\), whose seed"),
        (
            "split=ByShare()",
            "split=ByShare(), minimum_count=None",
            "minimum_count: found None, expected a whole number",
        ),
        ("split=ByShare()", "split=ByShare(), metrics='recall_at_precision_0.9'", "metrics: found .* expected a tuple"),
        ("tables={", "tables={'more': 1, ", "tables: found .* expected {.file without .csv.: pa.DataFrameSchema"),
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


def with_view(sources):
    """The irises, of which a view knows the colour of each kind, with these sources."""
    model = load("iris")
    colour = SchemaField(name="colour", type="category", description="Colour", example="blue", required=False)
    kind = colour.model_copy(update={"name": "garden", "required": True})
    view = View(name="colours", entity=("garden",), fields=("colour",), max_age_seconds=3600)
    fields = (*model.schema.fields, kind, colour)
    schema = ModelSchema(model="iris", fields=fields, output=model.schema.output, views=(view,))
    return dataclasses.replace(model, schema=schema, sources=sources)


@pytest.mark.usefixtures("iris")
@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ({}, "sources: colours must stand in both"),
        ({"colours": None, "colors": None}, "sources: colors must stand in both"),
        ({"colours": Source(tables=("rain",))}, r"sources, colours: tables: found \['rain'\], expected some of"),
        ({"colours": Source(tables=())}, r"sources, colours: tables: found \(\), expected some of"),
        ({"colours": Source(tables=("irises",), year=13)}, "sources, colours: place is a text and year one from 1900"),
    ],
)
def test_each_view_declares_its_source(sources, said):
    with pytest.raises(ModelError, match=said):
        with_view(sources)


@pytest.mark.usefixtures("iris")
def test_that_something_else_fills_a_view_is_said():
    assert with_view({"colours": None}).sources == {"colours": None}
