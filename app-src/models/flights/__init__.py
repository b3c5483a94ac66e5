"""Will this flight arrive more than 15 minutes late? Every departure from New York in 2013, asked an hour before.

Only what is known an hour before the scheduled departure is used. Flights that were cancelled or diverted have no
arrival delay (9,430 of 336,776): they have no label and are left out, so the answer is for a flight that does operate.
"""

import numpy as np
import optuna
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier
from xgboost.callback import EarlyStopping

from plumbline.core.schema import ModelSchema
from plumbline.training.model import ByTime, Day, Estimator, Model, Params, Source, Tables

from .data import TABLES, fetch
from .schema import SCHEMA

LATE_MINUTES = 15
LEAD = pd.Timedelta(hours=1)
"""How long before the scheduled departure the answer is asked for: there is still time to rebook or to warn."""
_WEATHER = {
    "temp": "temperature",
    "dewp": "dew_point",
    "humid": "humidity",
    "wind_dir": "wind_direction",
    "wind_speed": "wind_speed",
    "wind_gust": "wind_gust",
    "precip": "precipitation",
    "pressure": "pressure",
    "visib": "visibility",
}
_SUMMARIES = (
    ("precipitation_6h", "precipitation", 6, "sum"),
    ("precipitation_24h", "precipitation", 24, "sum"),
    ("visibility_6h", "visibility", 6, "min"),
    ("visibility_24h", "visibility", 24, "min"),
    ("wind_speed_24h", "wind_speed", 24, "max"),
)
"""Fields that sum up the hours before: (field, of which, how many hours, how)."""


def _minutes(hhmm: "pd.Series[int]") -> "pd.Series[int]":
    """2359 is 23:59, in minutes after midnight 1439."""
    return hhmm // 100 * 60 + hhmm % 100


def rows(tables: Tables) -> pd.DataFrame:
    """One row per flight that arrived, with what a caller can know an hour before it leaves."""
    flights = tables["flights"].dropna(subset="arr_delay").reset_index(drop=True)
    planes = tables["planes"].set_index("tailnum")
    # time_hour is the hour of the scheduled departure in UTC; the minutes are the same in every zone.
    departure = pd.to_datetime(flights["time_hour"], utc=True) + pd.to_timedelta(flights["minute"], unit="min")
    local_day = pd.to_datetime(flights[["year", "month", "day"]])
    return pd.DataFrame(
        {
            "at": departure - LEAD,
            "carrier": flights["carrier"],
            "origin": flights["origin"],
            "destination": flights["dest"],
            "distance": flights["distance"],
            "weekday": local_day.dt.dayofweek + 1,
            "departure": _minutes(flights["sched_dep_time"]),
            "arrival": _minutes(flights["sched_arr_time"]),
            "plane_year": flights["tailnum"].map(planes["year"]),
            "plane_seats": flights["tailnum"].map(planes["seats"]),
            "truth": (flights["arr_delay"] > LATE_MINUTES).map({False: "on_time", True: "late"}),
            "slice_carrier": flights["carrier"],
            "slice_origin": flights["origin"],
            "slice_month": np.datetime_as_string(local_day.to_numpy(), unit="M"),
        }
    )


def views(tables: Tables) -> dict[str, pd.DataFrame]:
    """The weather of each airport, known from the end of the hour that it is filed under.

    The observation of an hour is made within it (ASOS reports at about :51), so that its beginning would be too soon.
    What fell and blew in the hours before is kept too: an airport that was closed by a storm is late long after it.
    """
    weather = tables["weather"].rename(columns=_WEATHER)
    weather["at"] = pd.to_datetime(weather["time_hour"], utc=True) + pd.Timedelta(hours=1)
    weather = weather.sort_values(["origin", "at"], ignore_index=True)
    hourly = weather.set_index("at").groupby("origin")
    for name, source, hours, summary in _SUMMARIES:
        # A window with one failed observation still sums up the others.
        window = hourly[source].rolling(f"{hours}h", min_periods=1).agg(summary)
        # Adding and taking away along the window leaves a rest of 1e-17 where nothing fell.
        weather[name] = window.round(6).abs().to_numpy()
    return {"weather": weather[["origin", "at", *SCHEMA.views[0].fields]]}


def baseline(schema: ModelSchema) -> Estimator:
    """Logistic regression: categories as dummies, the rest scaled, what is missing as the median."""
    categories = [place for place, field in enumerate(schema.columns) if field.type == "category"]
    numbers = [place for place, field in enumerate(schema.columns) if field.type != "category"]
    scaled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    encoded = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), categories), (scaled, numbers))
    model: Estimator = make_pipeline(encoded, LogisticRegression(max_iter=200))
    return model


def candidate(_: ModelSchema, params: Params) -> Estimator:
    """Gradient boosting; it stops by itself on the validation data.

    Coarse bins keep it from knowing single hours again by their weather, which all flights of the hour share. The
    number of threads is fixed, as sums in another order give other last digits.
    """
    # save_best drops the trees after the best one, so that every export of the model is the same model.
    stop = EarlyStopping(rounds=30, save_best=True)
    model: Estimator = XGBClassifier(
        **params, n_estimators=600, max_bin=32, tree_method="hist", n_jobs=2, random_state=0, callbacks=[stop]
    )
    return model


def space(trial: optuna.Trial) -> Params:
    """Around the usual values; the number of trees is left to early stopping."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.2, log=True),
        "max_depth": trial.suggest_int("max_depth", 4, 9),
        "min_child_weight": trial.suggest_float("min_child_weight", 1, 100, log=True),
        "subsample": trial.suggest_float("subsample", 0.6, 1.0),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1.0),
        "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 30, log=True),
    }


MODEL = Model(
    schema=SCHEMA,
    tables=TABLES,
    fetch=fetch,
    rows=rows,
    views=views,
    # A demonstration: the data are of 2013, and so is the weather. With a source of today's, `place` says where it is.
    sources={"weather": Source(tables=("weather",), year=2013)},
    # Two whole months each for choosing and for judging, and the months judged on are later than all others.
    split=ByTime(
        validation=pd.Timestamp("2013-09-01", tz="America/New_York"),
        test=pd.Timestamp("2013-11-01", tz="America/New_York"),
    ),
    # A storm or a strike delays all flights of a day.
    cluster=Day("America/New_York"),
    baseline=baseline,
    candidate=candidate,
    defaults={
        "learning_rate": 0.05,
        "max_depth": 8,
        "min_child_weight": 20.0,
        "subsample": 0.8,
        "colsample_bytree": 0.5,
        "reg_lambda": 5.0,
    },
    space=space,
)
