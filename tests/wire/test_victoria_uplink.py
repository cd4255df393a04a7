"""A backlog goes to a real VictoriaMetrics by the v2 write API, and is asked for again."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api.processes.uplink import Uplink
from drivers.influxdb import InfluxSink, Target
from drivers.store.history import History
from drivers.store.ledger import LedgerStore
from ems.clock import SimClock
from tests.ports import free_port

MINUTES = 3 * 24 * 60


@pytest.fixture
def victoria(peer: Callable[[str], Path], tmp_path: Path) -> Iterator[str]:
    program = peer("victoria-metrics")
    address = f"127.0.0.1:{free_port()}"
    command: list[str] = [str(program), f"-storageDataPath={tmp_path / 'vm'}", f"-httpListenAddr={address}", "-retentionPeriod=10y", "-search.latencyOffset=0s"]
    with (tmp_path / "vm.log").open("wb") as log:
        process = subprocess.Popen([*command, "-loggerLevel=WARN"], stdout=log, stderr=log)
    url = f"http://{address}"
    try:
        deadline = time.monotonic() + 20.0
        while not healthy(url):
            assert process.poll() is None, (tmp_path / "vm.log").read_text()
            assert time.monotonic() < deadline, "victoria-metrics did not start"
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def healthy(url: str) -> bool:
    try:
        return get(f"{url}/health") == "OK"
    except OSError:
        return False


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def exported(url: str) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """Return every series that arrived, by name and asset, as (time [ms], value)."""
    get(f"{url}/internal/force_flush")
    query = urllib.parse.urlencode({"match[]": '{__name__=~"ems_.*"}'})
    found = {}
    for text in get(f"{url}/api/v1/export?{query}").splitlines():
        series: dict[str, Any] = json.loads(text)
        key = series["metric"]["__name__"], series["metric"].get("asset", "")
        found[key] = list(zip(series["timestamps"], series["values"], strict=True))
    return found


def counter(url: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{name}\{{[^}}]*\}} (\S+)$", get(f"{url}/metrics"), re.MULTILINE))


def test_three_days_without_a_link_arrive_once_in_order_and_whole(victoria: str, tmp_path: Path) -> None:
    start = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=MINUTES)
    history, ledger = History(tmp_path / "history.db"), LedgerStore(tmp_path / "ledger.db")
    with history.file.transaction() as db:
        rows = [(int((start.timestamp() + 60 * n) * 1e6), json.dumps(points(n))) for n in range(MINUTES)]
        db.executemany("INSERT INTO minutes (at_us, points) VALUES (?, ?)", rows)
    for n in range(100):
        ledger.minute(start + timedelta(minutes=n), {"seconds": 60.0, "fuel_l": 0.5 * n, "displaced_co2_kg": None if n == 50 else 2.0, "totals": {}})
    uplink = Uplink("isle one", tmp_path, InfluxSink(Target(victoria, "any", "any", "any")), SimClock(start))
    reports: list[Any] = []
    while not reports or reports[-1].status == "sending":
        reports.append(uplink.step())
    assert reports[-1].status == "idle", reports[-1]
    assert len(reports) < 40

    stamps = [round((start.timestamp() + 60 * n) * 1000) for n in range(MINUTES)]
    found = exported(victoria)
    assert found["ems_site_load_kw", ""] == [(at, 300.0 + n) for n, at in enumerate(stamps)]
    assert found["ems_asset_power_kw", "pv1"] == [(at, n / 8) for n, at in enumerate(stamps) if n % 10]  # every tenth is missing, not zero
    assert found["ems_asset_quality_code", "pv1"] == [(at, 0.0 if n % 10 else 2.0) for n, at in enumerate(stamps)]
    assert found["ems_fuel_fuel_l", ""] == [(at, 0.5 * n) for n, at in enumerate(stamps[:100])]
    assert len(found["ems_fuel_displaced_co2_kg", ""]) == 99
    assert counter(victoria, "vm_rows_invalid_total") == 0
    assert counter(victoria, "vm_rows_ignored_total") == 0
    assert counter(victoria, "vm_rows_inserted_total") > MINUTES

    # sent again, as after a lost answer: the same points, not more of them
    uplink.outbox.file.rows("DELETE FROM cursors")
    while uplink.step().status == "sending":
        pass
    again = exported(victoria)
    assert {key: dict(values) for key, values in again.items()} == {key: dict(values) for key, values in found.items()}
    uplink.close()
    history.close()
    ledger.close()


def points(n: int) -> dict[str, float]:
    power = {"pv1.power_kw": n / 8} if n % 10 else {}
    return {"load_kw": 300.0 + n, "pv1.quality_code": 0.0 if n % 10 else 2.0, **power}
