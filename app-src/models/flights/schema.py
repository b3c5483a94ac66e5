"""What a caller sends about a flight, and what the answer means."""

from plumbline.core.schema import ModelSchema, Output, SchemaField, View


def _code(name: str, example: str, description: str) -> SchemaField:
    return SchemaField(name=name, type="category", example=example, description=description)


def _whole(name: str, unit: str, low: int, high: int, example: int, description: str) -> SchemaField:
    return SchemaField(
        name=name,
        type="integer",
        unit=unit,
        minimum=low,
        maximum=high,
        example=example,
        description=description,
        required=not name.startswith("plane_"),
    )


def _weather(name: str, unit: str, low: float, high: float, example: float, description: str) -> SchemaField:
    """Of the origin; the online store fills it in where a caller leaves it out."""
    return SchemaField(
        name=name,
        type="number",
        unit=unit,
        minimum=low,
        maximum=high,
        example=example,
        description=f"{description} at the origin",
        required=False,
    )


WEATHER = (
    _weather("temperature", "°F", -60, 140, 39.02, "Air temperature"),
    _weather("dew_point", "°F", -80, 100, 28.04, "Dew point"),
    _weather("humidity", "%", 0, 100, 64.43, "Relative humidity"),
    _weather("wind_direction", "°", 0, 360, 240, "Direction that the wind comes from (0 is calm)"),
    _weather("wind_speed", "mph", 0, 250, 11.51, "Wind speed"),
    _weather("wind_gust", "mph", 0, 300, 20.71, "Speed of gusts, missing where there are none,"),
    _weather("wind_speed_24h", "mph", 0, 250, 16.11, "Highest wind speed of the last 24 hours"),
    _weather("precipitation", "in", 0, 20, 0.0, "Precipitation of the last hour"),
    _weather("precipitation_6h", "in", 0, 100, 0.02, "Precipitation of the last 6 hours"),
    _weather("precipitation_24h", "in", 0, 200, 0.3, "Precipitation of the last 24 hours"),
    _weather("pressure", "mbar", 850, 1100, 1012.5, "Air pressure at sea level"),
    _weather("visibility", "mi", 0, 10, 10, "Visibility (reported up to 10)"),
    _weather("visibility_6h", "mi", 0, 10, 8, "Lowest visibility of the last 6 hours"),
    _weather("visibility_24h", "mi", 0, 10, 2.5, "Lowest visibility of the last 24 hours"),
)

SCHEMA = ModelSchema(
    model="flights",
    fields=(
        _code("carrier", "UA", "IATA code of the airline"),
        _code("origin", "EWR", "IATA code of the airport that the flight leaves: EWR, JFK or LGA"),
        _code("destination", "IAH", "IATA code of the airport that it flies to"),
        _whole("distance", "mi", 1, 10_000, 1400, "Distance between the two airports"),
        _whole("weekday", "", 1, 7, 2, "Day of the departure at the origin: 1 is Monday, 7 is Sunday"),
        _whole("departure", "min", 0, 1439, 315, "Scheduled departure, minutes after local midnight: 05:15 is 315"),
        _whole("arrival", "min", 0, 1439, 499, "Scheduled arrival, minutes after midnight at the destination"),
        _whole("plane_year", "", 1950, 2100, 1999, "Year in which the plane was built"),
        _whole("plane_seats", "", 1, 1000, 149, "Seats of the plane"),
        *WEATHER,
    ),
    views=(
        View(
            name="weather",
            entity=("origin",),
            fields=tuple(field.name for field in WEATHER),
            # Observations are hourly: one or two may fail, older weather says little about now.
            max_age_seconds=3 * 3600,
        ),
    ),
    output=Output(
        task="binary",
        name="arrival",
        description="Does the flight arrive more than 15 minutes after its schedule, given that it operates?",
        labels=("on_time", "late"),
    ),
)
