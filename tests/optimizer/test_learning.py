"""What forecasts learn from made-up days whose truth is known, and that they can be stopped and go on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from ems.config.site import Site, Solar
from ems.plan import Forecast, Grid, Observation, PlantStart
from optimizer.forecasting import Forecasting
from optimizer.forecasting.blend import FEW_TRIALS, Record, blended
from optimizer.forecasting.deviation import SunDeviation
from optimizer.forecasting.fading import LEADS, RING, Fading
from optimizer.forecasting.history import DAY, SLOT_S, History, Slots, Values
from optimizer.forecasting.keep import load, save
from optimizer.forecasting.quantity import Quantity
from optimizer.forecasting.sky import ClearSky, clear_wm2, place
from optimizer.forecasting.usual import Index
from tests.optimizer.cases import DG1, LOAD, PV1, site
from tests.optimizer.test_problem import RIVER

HERE = {"id": "isle", "latitude": 34.0, "longitude": 139.0, "timezone": "Asia/Tokyo"}
NOTHING = PlantStart({}, {})
BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
TOWN = site(LOAD, DG1)


def isle(**where: object) -> Site:
    made = site(LOAD, PV1, DG1, RIVER)
    return Site.model_validate({**made.model_dump(exclude_unset=True, by_alias=True), "site": {**HERE, **where}})


def slot_of(at: datetime) -> int:
    return int(at.timestamp() // SLOT_S)


def days(begin: datetime, count: float, load_kw: Callable[[datetime], float], sun_kw: Callable[[int], float] | None = None) -> list[Observation]:
    times = [begin + timedelta(seconds=SLOT_S * k) for k in range(round(count * DAY))]
    return [Observation(t, SLOT_S, load_kw(t), {} if sun_kw is None else {"pv1": sun_kw(k)}, {}) for k, t in enumerate(times)]


def hourly(at: datetime, hours: int = 36) -> Grid:
    return Grid(at, (3600.0,) * hours)


def sine(at: datetime) -> float:
    return 100.0 + 40.0 * math.sin(2.0 * math.pi * (at.hour + at.minute / 60.0) / 24.0)


def flat(at: datetime) -> float:
    return 100.0


def foretold(made: Forecasting, at: datetime, hours: int = 36) -> Forecast:
    return made.forecast(hourly(at, hours), at, NOTHING)


def means_of(truth: Callable[[datetime], float], grid: Grid) -> list[float]:
    return [sum(truth(s + timedelta(minutes=m)) for m in (0, 15, 30, 45)) / 4.0 for s in grid.starts()]


# ------------------------------------------------------------------ load
def test_a_pure_day_is_learned_in_days() -> None:
    made = Forecasting(TOWN, "blend")
    made.learn(days(BEGIN, 5.0, sine))
    at = BEGIN + timedelta(days=5)
    found = foretold(made, at)
    assert found.load_kw == pytest.approx(means_of(sine, hourly(at)), abs=1.0)
    assert found.source["load"] == "blend"


def test_the_clock_of_the_people_counts_when_summer_time_begins() -> None:
    """People get up at seven: on 29 March 2026 that is an hour earlier in UTC."""

    def people(at: datetime) -> float:
        local = at.astimezone(paris.tz)
        return 180.0 if 7 <= local.hour < 9 else 60.0

    paris = Site.model_validate({**TOWN.model_dump(exclude_unset=True, by_alias=True), "site": {"id": "isle", "timezone": "Europe/Paris"}})
    made = Forecasting(paris, "seasonal")
    made.learn(days(datetime(2026, 3, 16, tzinfo=UTC), 12.5, people))
    found = foretold(made, datetime(2026, 3, 28, 12, tzinfo=UTC))
    peak = [s.hour for s, kw in zip(hourly(datetime(2026, 3, 28, 12, tzinfo=UTC)).starts(), found.load_kw, strict=True) if kw > 150.0]
    assert peak == [5, 6]  # 7 and 8 in Paris, where it was 6 and 7 UTC in winter


def test_a_leap_day_is_a_day_like_others() -> None:
    made = Forecasting(isle(), "blend")
    begin = datetime(2028, 2, 24, tzinfo=UTC)
    clear = 0.15 * clear_wm2(slot_of(begin) + np.arange(8 * DAY), 34.0, 139.0)
    made.learn(days(begin, 5.0, sine, lambda k: float(clear[k])))
    at = datetime(2028, 2, 29, tzinfo=UTC)
    found = foretold(made, at, 48)
    assert found.load_kw == pytest.approx(means_of(sine, hourly(at, 48)), abs=1.5)
    truth = clear[5 * DAY : 7 * DAY].reshape(-1, 4).mean(axis=1)
    assert np.abs(np.array(found.available_kw["pv1"]) - truth).max() < 5.0


def test_after_a_gap_of_days_it_goes_on_and_says_nothing_foolish() -> None:
    made = Forecasting(isle(), "blend")
    clear = 0.12 * clear_wm2(slot_of(BEGIN) + np.arange(20 * DAY), 34.0, 139.0)
    made.learn(days(BEGIN, 5.0, sine, lambda k: float(clear[k])))
    at = BEGIN + timedelta(days=8)  # three days of silence
    blind = foretold(made, at)
    assert blind.load_kw == pytest.approx(means_of(sine, hourly(at)), rel=0.1)
    assert max(blind.available_kw["pv1"]) > 50.0
    made.learn(days(at, 1.0, sine, lambda k: float(clear[8 * DAY + k])))
    back = foretold(made, at + timedelta(days=1))
    assert back.load_kw == pytest.approx(means_of(sine, hourly(at)), rel=0.05)


def test_values_that_cannot_be_are_gaps() -> None:
    made, clean = Forecasting(TOWN, "blend"), Forecasting(TOWN, "blend")
    seen = days(BEGIN, 6.0, sine)
    clean.learn(seen)
    made.learn([replace(o, load_kw=(math.nan, math.inf, -5.0)[k % 3]) if 300 <= k < 340 else o for k, o in enumerate(seen)])
    at = BEGIN + timedelta(days=6)
    assert foretold(made, at).load_kw == pytest.approx(foretold(clean, at).load_kw, rel=0.03)


# ------------------------------------------------------------------ sun
def test_each_array_learns_its_own_scale() -> None:
    """This one gives 84 W of its 150 kW for each W/m2: tilt and losses are nobody's business."""
    made = Forecasting(isle(), "clearsky")
    clear = 0.084 * clear_wm2(slot_of(BEGIN) + np.arange(10 * DAY), 34.0, 139.0)
    made.learn(days(BEGIN, 6.0, flat, lambda k: float(clear[k])))
    at = BEGIN + timedelta(days=6)
    found = foretold(made, at, 24)
    truth = clear[6 * DAY : 7 * DAY].reshape(-1, 4).mean(axis=1)
    assert np.abs(np.array(found.available_kw["pv1"]) - truth).max() < 0.05 * truth.max()
    assert found.source["pv1"] == "clearsky"


def test_the_night_is_dark_and_nothing_passes_the_rating() -> None:
    made = Forecasting(isle(), "blend")
    clear = 0.4 * clear_wm2(slot_of(BEGIN) + np.arange(10 * DAY), 34.0, 139.0)
    made.learn(days(BEGIN, 6.0, flat, lambda k: min(float(clear[k]), 150.0)))
    at = BEGIN + timedelta(days=6)
    sun = foretold(made, at).available_kw["pv1"]
    midnight = [k for k, s in enumerate(hourly(at).starts()) if s.hour == 15]  # Tokyo's midnight
    assert [sun[k] for k in midnight] == [0.0] * len(midnight)
    assert 100.0 < max(sun) <= 150.0


def test_clouds_of_this_morning_dim_the_next_hours_and_are_forgotten_as_they_use_to_be() -> None:
    """Days are clear or dull as a coin falls; within a day it stays as it is."""
    coin = np.random.default_rng(7).random(60) < 0.5
    share = np.where(coin, 1.0, 0.3)
    share[40:42] = 0.3, 1.0
    clear = 0.12 * clear_wm2(slot_of(BEGIN) + np.arange(44 * DAY), 34.0, 139.0)
    first = slot_of(BEGIN)

    def sun_kw(k: int) -> float:
        return float(clear[k] * share[(k + 36) // DAY])

    history, place_ = History(), ClearSky(34.0, 139.0)
    sun = SunDeviation(history, "pv1", Index(place_, 150.0), 150.0)
    now = 39 * DAY + 27 * 4  # noon in Tokyo, on day 40: a dull one
    for k, o in enumerate(days(BEGIN, now / DAY, flat, sun_kw)):
        history.learn([o])
        sun.learn(first + k, o.available_kw["pv1"])
    found = sun.predict(first + now + np.arange(30 * 4), first + now).reshape(-1, 4).mean(axis=1)
    bright = clear[(39 * DAY + 27 * 4) :][: 30 * 4].reshape(-1, 4).mean(axis=1)
    assert found[1] < 0.45 * bright[1]  # the afternoon will be as dull
    assert found[24] > 1.6 * found[0]  # tomorrow is another day


# ------------------------------------------------------------------ blend
def test_weights_move_to_the_better_method_and_back() -> None:
    record = Record(2)

    def lived(first: int, wrong: tuple[float, float], hours: int) -> None:
        for hour in range(hours):
            now = first + 4 * hour
            record.tried(now, np.tile(np.array(wrong)[:, None], (1, len(LEADS))))
            for slot in range(now, now + 4):
                record.learn(slot, 0.0)

    assert record.weights() == pytest.approx(0.5)
    lived(0, (1.0, 3.0), 400)
    assert (record.weights()[0] > 0.95).all()
    lived(1600, (4.0, 1.0), 900)
    assert (record.weights()[1] > 0.9).all()


def test_one_wild_hour_does_not_turn_the_weights_over() -> None:
    record = Record(2)
    for hour in range(200):
        wrong = (50.0, 2.0) if hour == 190 else (1.0, 2.0)
        record.tried(4 * hour, np.tile(np.array(wrong)[:, None], (1, len(LEADS))))
        for slot in range(4 * hour, 4 * hour + 4):
            record.learn(slot, 0.0)
    assert (record.weights()[0, :3] > 0.8).all()


def test_a_new_method_weighs_like_the_best_until_it_was_tried() -> None:
    record = Record(3)
    for hour in range(100):
        record.tried(4 * hour, np.array([[1.0], [4.0], [np.nan]]) * np.ones(len(LEADS)))
        for slot in range(4 * hour, 4 * hour + 4):
            record.learn(slot, 0.0)
    assert FEW_TRIALS < 100
    assert record.weights()[2, 0] == pytest.approx(record.weights()[0, 0])
    silent = blended(np.array([[10.0], [20.0], [np.nan]]), record.weights(), np.array([1]))
    assert 10.0 <= silent[0] < 11.0


class Says:
    """A method that always says the same."""

    def __init__(self, value: float) -> None:
        self._value = value

    def learn(self, slot: int, value: float) -> None:
        pass

    def predict(self, slots: Slots, now: int) -> Values:
        return np.full(len(slots), self._value)

    def state(self) -> dict[str, Values]:
        return {}

    def resume(self, state: object) -> None:
        pass


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf, -3.0])
@pytest.mark.parametrize("wanted", [("broken",), ("broken", "persistence")])
def test_what_cannot_be_is_replaced_and_flagged_never_zero(nonsense: float, wanted: tuple[str, ...]) -> None:
    history = History()
    history.learn(days(BEGIN, 2.0, flat))

    def spare(slots: Slots) -> tuple[Values, str]:
        return np.full(len(slots), 42.0), "spare"

    broken = Quantity("load", history, {"broken": Says(nonsense), "persistence": Says(77.0)}, wanted, 200.0, spare, file=False)
    values, label = broken.forecast(slot_of(BEGIN) + 2 * DAY + np.arange(8), slot_of(BEGIN) + 2 * DAY)
    assert values.tolist() == [77.0] * 8
    assert label == "fallback:persistence"
    silent = Quantity("load", history, {"broken": Says(nonsense), "persistence": Says(math.nan)}, wanted, 200.0, spare, file=False)
    assert silent.forecast(np.arange(8), 0) == (pytest.approx([42.0] * 8), "fallback:spare")


def test_coefficients_find_how_fast_a_deviation_fades() -> None:
    """A deviation of which 0.8 is left after an hour: after k hours 0.8 to the power of k."""
    chance = np.random.default_rng(11)
    fading, off = Fading(100.0, 1.0), 0.0
    for hour in range(1500):
        off = 0.8 * off + chance.normal(0.0, 5.0)
        deviations = np.zeros((len(LEADS), 3))
        deviations[:, 0] = off
        for slot in range(4 * hour - 4, 4 * hour):
            fading.learn(slot, 50.0 + off)
        fading.tried(4 * hour, np.full(len(LEADS), 50.0), deviations)
    hours = LEADS[:6] / 4
    assert fading.parts[2:6, 0] == pytest.approx(0.8 ** hours[2:], abs=0.12)
    assert LEADS[-1] < RING


# ------------------------------------------------------------------ to be stopped and go on
def lives(site_: Site, count: float) -> list[Observation]:
    clear = 0.1 * clear_wm2(slot_of(BEGIN) + np.arange(30 * DAY), 34.0, 139.0)
    cloud = np.random.default_rng(4).uniform(0.3, 1.0, 30 * DAY)
    return [replace(o, inflow_m3s={"hydro1": 0.2 + 0.01 * (k % 50)}) for k, o in enumerate(days(BEGIN, count, sine, lambda k: float(clear[k] * cloud[k])))]


def test_what_was_learned_is_handed_over_whole(tmp_path: Path) -> None:
    seen = lives(isle(), 7.0)
    one, other, third = (Forecasting(isle(), "blend") for _ in range(3))
    one.learn(seen[: 5 * DAY])
    other.resume(one.state())
    save(tmp_path / "forecasts.npz", one.state())
    third.resume(load(tmp_path / "forecasts.npz"))
    for made in (one, other, third):
        made.learn(seen[4 * DAY :])  # a day comes twice, as after a restart
    at = BEGIN + timedelta(days=7)
    assert foretold(one, at) == foretold(other, at) == foretold(third, at)
    assert foretold(one, at).bands is not None


def test_the_same_days_make_the_same_forecast() -> None:
    seen = lives(isle(), 4.0)
    whole, piece_by_piece = Forecasting(isle(), "blend"), Forecasting(isle(), "blend")
    whole.learn(seen)
    for k in range(0, len(seen), 7):
        piece_by_piece.learn(seen[k : k + 7])
    at = BEGIN + timedelta(days=4)
    assert foretold(whole, at) == foretold(piece_by_piece, at)


def test_a_state_of_another_site_does_no_harm() -> None:
    made, foreign = Forecasting(TOWN, "blend"), Forecasting(isle(), "blend")
    foreign.learn(lives(isle(), 2.0))
    made.resume({**foreign.state(), "load/record/squares": np.zeros((7, 3)), "nonsense": np.zeros(2)})
    made.learn(days(BEGIN + timedelta(days=2), 2.0, sine))
    assert min(foretold(made, BEGIN + timedelta(days=4)).load_kw) > 50.0


def test_the_worker_s_file_outlives_it_and_a_damaged_one_is_left_out(tmp_path: Path) -> None:
    kept = tmp_path / "forecasts.npz"
    first = Forecasting(TOWN, "blend", kept=kept)
    first.learn(days(BEGIN, 2.0, sine))
    again = Forecasting(TOWN, "blend", kept=kept)
    at = BEGIN + timedelta(days=2)
    assert again.forecast(hourly(at), at, NOTHING).load_kw == first.forecast(hourly(at), at, NOTHING).load_kw
    kept.write_bytes(kept.read_bytes()[:500])
    fresh = Forecasting(TOWN, "blend", kept=kept)
    assert fresh.forecast(hourly(at), at, NOTHING).source["load"].startswith("fallback")


def test_a_damaged_page_of_the_file_is_left_out_too(tmp_path: Path) -> None:
    """Its list of parts is whole, but what one of them holds is not: zeros in the middle of what was packed."""
    kept = tmp_path / "forecasts.npz"
    save(kept, {"noise": np.random.default_rng(1).normal(size=4000)})
    assert list(load(kept)) == ["noise"]
    whole = kept.read_bytes()
    for at in range(200, len(whole) - 1000, 4096):
        kept.write_bytes(whole[:at] + bytes(512) + whole[at + 512 :])
        assert load(kept) == {}


def test_a_clock_that_was_ahead_for_a_while_does_not_stop_the_learning() -> None:
    """One interval ten days ahead, then the right time: trials are judged again from the next hour on."""
    made = Forecasting(TOWN, "blend")
    made.learn(days(BEGIN, 2.0, sine))
    made.learn(days(BEGIN + timedelta(days=12), 1 / DAY, sine))
    before = made.state()["bands/counts"].sum()
    made.learn(days(BEGIN + timedelta(days=2), 2.0, sine))
    assert made.state()["bands/counts"].sum() - before > 400.0  # 48 trials, at nearly all of ten leads
    assert made.state()["closed"][0] == slot_of(BEGIN + timedelta(days=4)) - 1


def test_a_message_that_is_a_day_late_is_no_clock() -> None:
    made = Forecasting(TOWN, "blend")
    made.learn(days(BEGIN + timedelta(days=1), 1.0, sine))
    made.learn(days(BEGIN, 1 / DAY, sine))
    assert made.state()["closed"][0] == slot_of(BEGIN + timedelta(days=2)) - 1


def test_a_sky_of_a_year_ago_is_worked_out_though_the_store_is_full() -> None:
    sky, now = ClearSky(34.0, 139.0), slot_of(BEGIN)
    for block in range(4):
        sky.ghi_wm2(now + DAY * 30 * block + np.arange(DAY))
    past = now - 365 * DAY + np.arange(DAY)
    assert sky.ghi_wm2(past) == pytest.approx(clear_wm2(past, 34.0, 139.0))
    assert sky.ghi_wm2(past + DAY) == pytest.approx(clear_wm2(past + DAY, 34.0, 139.0))


def test_memory_does_not_grow() -> None:
    made = Forecasting(TOWN, "blend")
    made.learn(days(BEGIN, 2.0, sine))
    small = sum(a.nbytes for name, a in made.state().items() if "taken" not in name)
    made.learn(days(BEGIN + timedelta(days=2), 4.0, sine))
    assert sum(a.nbytes for name, a in made.state().items() if "taken" not in name) == small
    assert len(made.state()["history/taken"]) <= 2 * 35 * DAY


# ------------------------------------------------------------------ places
def test_a_place_that_is_not_said_is_guessed_from_the_time_zone() -> None:
    unsaid = site(LOAD, PV1, DG1)
    tokyo = unsaid.model_copy(update={"site": unsaid.site.model_copy(update={"timezone": "Asia/Tokyo"})})
    assert place(tokyo) == (0.0, 135.0)
    sun = Forecasting(tokyo, "blend").forecast(hourly(BEGIN, 24), BEGIN, NOTHING).available_kw["pv1"]
    assert sun.index(max(sun)) in (2, 3)  # noon in Tokyo
    assert place(isle()) == (34.0, 139.0)


def test_clearsky_asks_for_a_place() -> None:
    with pytest.raises(Exception, match="latitude and longitude"):
        Forecasting(site(LOAD, PV1, DG1), "clearsky")
    assert Forecasting(isle(), "clearsky").forecast(hourly(BEGIN), BEGIN, NOTHING).source["pv1"].startswith("fallback")
    rated = isle().of(Solar)[0].rated_kw
    assert 0.1 * rated < max(Forecasting(isle(), "blend").forecast(hourly(BEGIN), BEGIN, NOTHING).available_kw["pv1"]) < 0.5 * rated  # a dull day
