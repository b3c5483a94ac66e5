"""How far will the disease have gone in a year? 442 patients, ten measurements each (Efron et al., LARS, 2004)."""

import optuna
import pandas as pd
import pandera.pandas as pa
from sklearn.dummy import DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from plumbline.core.schema import ModelSchema, Output, SchemaField
from plumbline.training.model import ByShare, Estimator, Model, Params, Tables

from .data import fetch


def _number(name: str, description: str, unit: str, low: float, high: float, example: float) -> SchemaField:
    # A laboratory value may be missing, the rest is known of every patient.
    return SchemaField(
        name=name,
        type="number",
        description=description,
        unit=unit,
        minimum=low,
        maximum=high,
        example=example,
        required=name in ("age", "bmi"),
    )


FIELDS = (
    _number("age", "Age", "years", 0, 120, 59.0),
    SchemaField(name="sex", type="category", description="Sex, as the source codes it: 1 or 2", example="2"),
    _number("bmi", "Body mass index", "kg/m²", 10, 80, 32.1),
    _number("bp", "Mean arterial blood pressure", "mmHg", 30, 200, 101.0),
    _number("s1", "Total serum cholesterol", "mg/dl", 50, 500, 157.0),
    _number("s2", "Low-density lipoproteins", "mg/dl", 10, 400, 93.2),
    _number("s3", "High-density lipoproteins", "mg/dl", 5, 150, 38.0),
    _number("s4", "Total cholesterol by HDL", "", 1, 15, 4.0),
    _number("s5", "Logarithm of serum triglycerides", "", 2, 8, 4.8598),
    _number("s6", "Blood sugar", "mg/dl", 30, 300, 87.0),
)


def rows(tables: Tables) -> pd.DataFrame:
    """One row per patient, judged by sex and by age below and from 50."""
    patients = tables["patients"]
    return patients.rename(columns={"target": "truth"}).assign(
        slice_sex=patients["sex"], slice_age=(patients["age"] < 50).map({True: "below 50", False: "50 and over"})
    )


def baseline(_: ModelSchema) -> Estimator:
    """The mean of all patients."""
    model: Estimator = DummyRegressor()
    return model


def candidate(_: ModelSchema, params: Params) -> Estimator:
    """A linear model: 265 patients to train on do not carry more."""
    model: Estimator = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), ElasticNet(**params))
    return model


def space(trial: optuna.Trial) -> Params:
    """How strongly, and in which norm, the weights are held small."""
    return {
        "alpha": trial.suggest_float("alpha", 0.01, 10, log=True),
        "l1_ratio": trial.suggest_float("l1_ratio", 0.0, 1.0),
    }


_RAW = {
    field.name: pa.Column(float, pa.Check.in_range(field.minimum, field.maximum)) for field in FIELDS if field.maximum
}

MODEL = Model(
    schema=ModelSchema(
        model="diabetes",
        fields=FIELDS,
        output=Output(
            task="regression",
            name="progression",
            description="Progression of the disease one year after the measurements",
        ),
    ),
    tables={
        "patients": pa.DataFrameSchema(
            {
                **_RAW,
                "sex": pa.Column(str, pa.Check.isin(["1", "2"])),
                "target": pa.Column(float, pa.Check.in_range(0, 500)),
            }
        )
    },
    fetch=fetch,
    rows=rows,
    split=ByShare(validation=0.2, test=0.2),
    # Each row is another patient, seen once.
    cluster=None,
    baseline=baseline,
    candidate=candidate,
    defaults={"alpha": 0.1, "l1_ratio": 0.5},
    space=space,
    minimum_count=10,
)
