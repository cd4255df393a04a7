"""What the models of the site file and of the device profiles have in common: strict, frozen, closed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,39}$"
TIME_OF_DAY = r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$"
URL = r"^((tcp|rtu\+tcp|opc\.tcp|mqtts?)://[^/\s:@]+:\d{1,5}(/\S*)?|rtu://\S+)$"
COUNTRY = "^[A-Z]{2}$"
CURRENCY = "^[A-Z]{3}$"
REFERENCE = r"^\d{1,5}\.[A-Za-z]\w*$"
PATTERNS = {
    NAME: "a letter, then up to 39 letters, digits, _ or -",
    TIME_OF_DAY: "a time of day as 06:00, at most 24:00",
    URL: "tcp://HOST:PORT, rtu+tcp://HOST:PORT, rtu:///dev/ttyX?baud=9600, opc.tcp://HOST:PORT or mqtt://HOST:PORT, without user and password",
    COUNTRY: "a country code of two letters, as PW",
    CURRENCY: "a currency code of three letters, as USD",
    REFERENCE: "a SunSpec model and point, as 103.W",
}
"""What each pattern means, for the error."""

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Efficiency = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(pattern=NAME)]
Text = Annotated[str, Field(min_length=1)]
Curve = tuple[tuple[NotNegative, NotNegative], ...]


class Strict(BaseModel):
    """Nothing is repaired: no unknown keys, no text for a number, no NaN, nothing changes after loading."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _frozen_lists(cls, data: Any) -> Any:
        """YAML has lists, values have tuples; strict mode would refuse the one for the other."""
        return {k: _tuples(v) for k, v in data.items()} if isinstance(data, dict) else data


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def times(field: str, factor: float) -> Any:
    """Return a field whose default is `factor` times another field above it."""
    return Field(default_factory=lambda data: factor * data[field])


def same_as(field: str) -> Any:
    """Return a field whose default is the value of another field above it."""
    return Field(default_factory=lambda data: data[field])


def wrong(path: Iterable[str | int] | str, text: str, expected: str) -> PydanticCustomError:
    """Return the error of a check between fields, at a path below the model that raises it."""
    below = (path,) if isinstance(path, str) else tuple(path)
    return PydanticCustomError("ems", "{text}", {"text": text, "below": below, "expected": expected})


def ascending(field: str, points: Curve, expected: str) -> None:
    """Refuse a curve whose first column does not rise."""
    if any(b[0] <= a[0] for a, b in zip(points, points[1:], strict=False)):
        raise wrong(field, "the points are not in rising order", expected)
