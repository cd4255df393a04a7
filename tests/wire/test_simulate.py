"""`ems simulate` as a process: its one line, a foreign Modbus client on its wire, and its end."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.cli.main import run
from api.cli.simulate import address, clock_at, conditions_of
from ems.clock import ScaledClock, WallClock
from ems.config.load import load_site
from ems.errors import BadInput

ROOT = Path(__file__).parents[2]
SITE = """\
site: {id: wired}
assets:
  - {id: town, kind: load, peak_kw: 400}
  - {id: pv1, kind: solar, rated_kw: 300, device: {profile: generic-solar, url: "tcp://10.0.0.2:502", unit: 4}}
  - {id: dg1, kind: diesel, rated_kw: 400, forming: isochronous}
"""
SERIES = "time,load_kw,pv1.available_kw\n" + "".join(f"2026-03-01T{h:02d}:00:00Z,250.0,120.0\n" for h in range(24))


@contextmanager
def simulating(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command in `folder` and give the process and its first line on stdout."""
    (folder / "site.yaml").write_text(SITE, encoding="utf-8")
    (folder / "day.csv").write_text(SERIES, encoding="utf-8")
    command = [sys.executable, "-m", "api.cli.main", "simulate", str(folder / "site.yaml"), "--series", str(folder / "day.csv"), "--data", str(folder / "data")]
    process = subprocess.Popen([*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def polled(mbpoll: Path, url: str, unit: int, *options: str, write: str = "") -> str:
    port = url.rpartition(":")[2]
    command = [str(mbpoll), "-m", "tcp", "-p", port, "-a", str(unit), "-0", "-1", "-q", "-B", *options, "127.0.0.1", *([write] if write else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def number(text: str) -> float:
    found = re.search(r"^\[\d+\]:\s+(-?[\d.]+)", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def test_a_foreign_client_reads_and_limits_the_plant(tmp_path: Path, peer: Callable[[str], Path]) -> None:
    mbpoll = peer("mbpoll")
    with simulating(tmp_path) as (process, line):
        assert line == str(tmp_path / "data" / "as-simulated.yaml")
        site = load_site(Path(line)).site
        pv1, town = site.asset("pv1").device, site.asset("town").device
        assert pv1 is not None and town is not None
        assert pv1.unit == 4
        assert number(polled(mbpoll, town.url, town.unit, "-r", "0", "-t", "3:float")) == pytest.approx(250.0)
        assert number(polled(mbpoll, pv1.url, 4, "-r", "0", "-t", "4:int")) == 120_000  # W
        polled(mbpoll, pv1.url, 4, "-r", "20", "-t", "4:int", write="45000")
        for _ in range(100):  # each is a new process and a new connection: no need to wait between them
            power_w = number(polled(mbpoll, pv1.url, 4, "-r", "0", "-t", "4:int"))
            if power_w == 45_000:
                break
        assert power_w == 45_000
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=8)
        assert (process.returncode, out) == (0, "")
        assert "Traceback" not in err


def test_the_dynamic_level_is_on_the_same_wire(tmp_path: Path, peer: Callable[[str], Path]) -> None:
    """What a foreign client writes to the sun, the engine takes over through the frequency."""
    mbpoll = peer("mbpoll")
    with simulating(tmp_path, "--level", "dynamic", "--speed", "60") as (_, line):
        site = load_site(Path(line)).site
        dg1, pv1 = site.asset("dg1").device, site.asset("pv1").device
        assert dg1 is not None and pv1 is not None
        assert number(polled(mbpoll, dg1.url, dg1.unit, "-r", "4", "-t", "4:float")) == pytest.approx(50.0, abs=0.2)
        before = number(polled(mbpoll, dg1.url, dg1.unit, "-r", "0", "-t", "4:float"))
        polled(mbpoll, pv1.url, 4, "-r", "20", "-t", "4:int", write="45000")
        for _ in range(100):
            power_kw = number(polled(mbpoll, dg1.url, dg1.unit, "-r", "0", "-t", "4:float"))
            if power_kw > before + 70:
                break
        assert power_kw == pytest.approx(250.0 - 45.0, abs=2.0), "the engine takes what the sun no longer gives"


def test_a_busy_port_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with simulating(tmp_path, "--listen", where) as (process, line):
            _, err = process.communicate(timeout=30)
    assert (line, process.returncode) == ("", 1)
    assert where in err.strip().splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--listen", "1502"), "1502"),
        (("--listen", "127.0.0.1:99999"), "99999"),
        (("--speed", "0"), "--speed"),
        (("--speed", "nan"), "--speed"),
        (("--level", "quantum"), "quantum"),
        (("--series", "nowhere.csv"), "nowhere.csv"),
        (("--start", "yesterday"), "yesterday"),
        (("--start", "2026-03-01T00:00:00"), "2026-03-01T00:00:00"),
    ],
)
def test_wrong_options_are_bad_input(tmp_path: Path, options: tuple[str, str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(SITE, encoding="utf-8")
    assert run(["simulate", str(path), "--data", str(tmp_path), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert named in err.strip().splitlines()[-1]


def test_addresses() -> None:
    assert address("0.0.0.0:0") == ("0.0.0.0", 0)
    with pytest.raises(BadInput):
        address("localhost:http")


def test_a_series_without_irradiance_still_has_a_sun_for_the_weather_station(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE, encoding="utf-8")
    (tmp_path / "day.csv").write_text(SERIES, encoding="utf-8")
    outside = conditions_of(load_site(tmp_path / "site.yaml"), tmp_path / "day.csv", 1)
    now = outside(datetime(2027, 8, 5, 12, tzinfo=UTC), 60.0)  # a day that the series does not have: it repeats
    assert (now.load_kw, now.available_kw, now.ghi_wm2) == ({"town": 250.0}, {"pv1": 120.0}, 400.0)


def test_without_a_series_the_seed_makes_the_day(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE, encoding="utf-8")
    loaded = load_site(tmp_path / "site.yaml")
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    first, again, other = (conditions_of(loaded, None, seed)(noon, 60.0) for seed in (1, 1, 2))
    assert first == again != other
    assert 0 < first.load_kw["town"] <= 400 and 0 < first.available_kw["pv1"] <= 300


def test_two_processes_with_one_origin_share_one_clock() -> None:
    assert isinstance(clock_at(1.0, None, None), WallClock)
    clock = clock_at(60.0, 1_000.0, "2026-03-01T00:00:00Z")
    assert isinstance(clock, ScaledClock)
    assert (clock.start, clock.origin, clock.speed) == (datetime(2026, 3, 1, tzinfo=UTC), 1_000.0, 60.0)
