"""InfluxDB by its v2 write API: lines out of minutes, and a sink that believes nothing but a 204.

Measurements `ems_site` (tag site), `ems_asset` (tags site, asset), `ems_fuel` (tag site) and `ems_energy`
(tags site, asset). Every field is a float, states are numeric codes, stamps are the begin of the minute:
sending a minute again overwrites it with itself. What has no value has no field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from influxdb_client.service.write_service import WriteService
from urllib3.exceptions import HTTPError

from ems.errors import BadAnswer, ConnectionLost, Failed

CONNECT_S = 5.0
ANSWER_S = 15.0
"""A batch that a satellite link cannot carry in this time is sent in smaller parts."""
LONGEST_WAIT_S = 600.0
PROBES = 3
"""So many of the newest lines are tried to find out whether a server is sound: one may be poison itself."""
DROPPED = re.compile(r"\bdropped=(\d+)")
"""How InfluxDB tells the number of points in a request that it did not store."""


class Refused(BadAnswer):
    """The far side will not take these lines, now or ever (400, 413, 422)."""


class Denied(Failed):
    """It takes nothing from us: address, token or bucket is wrong (401, 403, 404, and whatever is no 204)."""


class Unsound(Denied):
    """It refuses most lines, and the newest ones as well."""


class Busy(Failed):
    """It is overloaded and says when to come back (429, 503)."""

    def __init__(self, error: str, where: str, retry_after_s: float) -> None:
        super().__init__(error, where)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Target:
    """Where to deliver."""

    url: str
    token: str
    org: str
    bucket: str


class InfluxSink:
    """One InfluxDB bucket (or VictoriaMetrics, which takes the same writes).

    Synchronous, without any retries of its own: what is not answered by 204 has not been delivered.
    """

    def __init__(self, target: Target, connect_s: float = CONNECT_S, answer_s: float = ANSWER_S) -> None:
        self._target = target
        self._timeout_ms = (connect_s * 1000.0, answer_s * 1000.0)
        self._client = InfluxDBClient(url=target.url, token=target.token, org=target.org, enable_gzip=True, retries=False)
        self._writes = WriteService(self._client.api_client)

    def write(self, lines: Sequence[str]) -> None:
        """Deliver lines; returns once they have arrived.

        Raises
        ------
        Refused, Denied, Busy, ConnectionLost
        """
        target = self._target
        try:
            _, status, _ = self._writes.post_write_with_http_info(
                target.org,
                target.bucket,
                "\n".join(lines).encode(),
                precision=WritePrecision.US,
                content_encoding="gzip",
                _request_timeout=self._timeout_ms,
                urlopen_kw={"redirect": False},
            )
        except ApiException as error:
            raise failure(error, target.url) from error
        except (HTTPError, OSError) as error:
            raise ConnectionLost(f"no answer: {error}", target.url, "an InfluxDB that answers") from error
        if status != 204:
            raise Denied(f"answered {status}", target.url, "204: something else stands at this address")

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()


def failure(error: ApiException, url: str) -> Failed:
    """Return what an answer other than success means."""
    status = error.status or 0
    said = f"answered {status}: {str(error.body or error.reason or '').strip()[:200]}"
    if status in (400, 413, 422):
        return Refused(said, url)
    if status in (429, 503):
        return Busy(said, url, retry_after_s(error.headers))
    if status in (0, 408) or status >= 500:
        return ConnectionLost(said, url)
    return Denied(said, url, "a valid EMS_INFLUX_URL, EMS_INFLUX_TOKEN, EMS_INFLUX_ORG and EMS_INFLUX_BUCKET")


def retry_after_s(headers: Mapping[str, str] | None) -> float:
    """Return how long to wait [s] by the header Retry-After: seconds or a date, counted from the server's own clock."""
    given = {name.lower(): value for name, value in (headers or {}).items()}
    text = given.get("retry-after", "").strip()
    if not text:
        return 0.0
    try:
        wait = float(text)
    except ValueError:
        wait = (http_date(text) - http_date(given.get("date", ""))).total_seconds()
    return min(max(wait, 0.0), LONGEST_WAIT_S) if math.isfinite(wait) else 0.0


def http_date(text: str) -> datetime:
    """Return a date of an HTTP header; one that cannot be read is the beginning of time."""
    try:
        return parsedate_to_datetime(text).replace(tzinfo=UTC)
    except ValueError:
        return datetime(1970, 1, 1, tzinfo=UTC)


# -- sending -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sent:
    """What became of a batch: how many lines arrived, and which never will, with the cause."""

    arrived: int = 0
    poison: list[tuple[str, str]] = field(default_factory=list)


def send(sink: InfluxSink, lines: Sequence[str], newest: Callable[[], Sequence[str]] = tuple, proven: bool = True) -> Sent:
    """Deliver a batch; lines that are refused for good are searched by halving and set aside.

    Where much of a batch is refused, either the server is wrong or the lines are, as those beyond its retention. The newest
    lines tell: if the server takes one of them it is sound, and what it refuses is set aside however much it is. Else nothing is.

    Parameters
    ----------
    newest : Callable[[], Sequence[str]]
        Gives the newest lines there are; asked for only when they are needed. Sending them early does no harm: they come again.
    proven : bool
        Whether the batch is tried first; else the newest lines are.

    Raises
    ------
    Unsound, Denied, Busy, ConnectionLost
    """
    search = _Search(sink, newest, most=max(3, len(lines) // 4))
    if not proven:
        search.prove("it refused most lines before")
    search.send(lines)
    if search.sent.poison and not search.sent.arrived:
        search.prove(f"every line is refused: {search.sent.poison[0][1]}")
    return search.sent


class _Search:
    """One batch on its way; of a server that is not known to be sound so many lines at the most are poison."""

    def __init__(self, sink: InfluxSink, newest: Callable[[], Sequence[str]], most: int) -> None:
        self.sent = Sent()
        self._sink, self._newest, self._most, self._sound = sink, newest, most, False

    def send(self, lines: Sequence[str]) -> None:
        """Send lines; on a refusal each half by itself."""
        if not lines:
            return
        try:
            self._sink.write(lines)
        except Refused as error:
            if len(lines) == 1 or dropped(error) == len(lines):
                self.sent.poison += [(line, error.error) for line in lines]
                if len(self.sent.poison) > self._most:
                    self.prove(f"most lines are refused: {error.error}")
                return
            half = len(lines) // 2
            self.send(lines[:half])
            self.send(lines[half:])
        else:
            self.sent.arrived += len(lines)

    def prove(self, why: str) -> None:
        """Find out once whether the server takes one of the newest lines."""
        self._sound = self._sound or any(self._takes(line) for line in self._newest()[:PROBES])
        if not self._sound:
            raise Unsound(why, "uplink", "a server that takes line protocol")

    def _takes(self, line: str) -> bool:
        try:
            self._sink.write([line])
        except Refused:
            return False
        return True


def dropped(error: Refused) -> int:
    """Return how many lines the far side says it has refused, the others of the same request being stored; 0 where it does not say."""
    said = DROPPED.search(error.error)
    return int(said[1]) if said else 0


# -- lines -------------------------------------------------------------------------------------------

TAG_ESCAPES = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\=", "\n": " "})
SITE_PARTS = ("reserve", "co2", "alarms")


def line(measurement: str, tags: Mapping[str, str], fields: Mapping[str, Any], at_us: int) -> str | None:
    """Return one line of line protocol, stamped in microseconds; None where no field has a value.

    Every field is a float; None, NaN and infinities are left out.
    """
    numbers = {name: float(value) for name, value in fields.items() if isinstance(value, int | float) and math.isfinite(value)}
    if not numbers:
        return None
    head = measurement + "".join(f",{name}={value.translate(TAG_ESCAPES)}" for name, value in sorted(tags.items()) if value)
    return f"{head} {','.join(f'{name.translate(TAG_ESCAPES)}={value!r}' for name, value in sorted(numbers.items()))} {at_us}"


def minute_lines(site: str, at_us: int, points: Mapping[str, float]) -> list[str]:
    """Return the lines of one minute of history: one for the site, one for each asset or feeder."""
    whole: dict[str, float] = {}
    assets: dict[str, dict[str, float]] = {}
    for name, value in points.items():
        owner, _, point = name.rpartition(".")
        if not owner or owner in SITE_PARTS:
            whole[name.replace(".", "_")] = value
        else:
            assets.setdefault(owner, {})[point] = value
    found = [line("ems_site", {"site": site}, whole, at_us)]
    found += [line("ems_asset", {"site": site, "asset": asset}, values, at_us) for asset, values in sorted(assets.items())]
    return [text for text in found if text is not None]


FUEL_FIELDS = (
    "seconds", "load_kwh", "fuel_l", "co2_kg", "baseline_l", "baseline_factor", "baseline_band",
    "displaced_co2_kg", "displaced_low_kg", "displaced_high_kg",
)  # fmt: skip


def ledger_lines(site: str, at_us: int, row: Mapping[str, Any]) -> list[str]:
    """Return the lines of one ledger row: fuel and CO2, and the energy of each asset; a gap is a line with `missing_s`."""
    if row.get("kind") != "energy":
        missing = line("ems_fuel", {"site": site}, {"missing_s": row.get("seconds")}, at_us) if row.get("kind") == "gap" else None
        return [] if missing is None else [missing]
    totals = {f"total_{name}": value for name, value in row.get("totals", {}).items()}
    found = [line("ems_fuel", {"site": site}, {name: row.get(name) for name in FUEL_FIELDS} | totals, at_us)]
    energy = {**row.get("assets", {}), **row.get("meters", {})}
    for asset, values in sorted(energy.items()):
        fuel = row.get("fuel", {}).get(asset, {})
        found.append(line("ems_energy", {"site": site, "asset": asset}, {**values, **fuel}, at_us))
    return [text for text in found if text is not None]
