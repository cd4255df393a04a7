"""What a point may show, and how a person tries it: for the commissioning sheet."""

from __future__ import annotations

from ems.config.profile import Command, Place, Point
from ems.config.site import AnyAsset, Battery, Diesel, Feeder, Hydro, Inverter, Load, SiteInfo, Solar, Tank

TESTS: dict[str, tuple[str, str]] = {
    "power_kw": (
        "Compare with the device's display, at two different powers; sign: positive is into the busbar",
        "2 点の出力で機器表示と照合。符号：母線へ流入が正",
    ),
    "reactive_kvar": ("Compare with the device's display; sign as power", "機器表示と照合。符号は有効電力と同じ"),
    "frequency_hz": ("Compare with another instrument on the busbar", "母線の別の計器と照合"),
    "voltage_v": ("Compare with another instrument: line to line", "線間電圧を別の計器と照合"),
    "soc": ("Compare with the BMS; charge and discharge a little: does it follow?", "BMS 表示と照合。充放電して追従を確認"),
    "soh": ("Compare with the BMS", "BMS 表示と照合"),
    "charge_limit_kw": ("Compare with the BMS; is it DC power, and positive?", "BMS 表示と照合。直流電力・正値であること"),
    "discharge_limit_kw": ("Compare with the BMS; is it DC power, and positive?", "BMS 表示と照合。直流電力・正値であること"),
    "running": ("Start and stop by hand: 1 while it runs", "手動で起動・停止し、運転中に 1 となること"),
    "synchronised": ("Synchronise by hand: 1 when in step", "手動で同期し、同期時に 1 となること"),
    "breaker_closed": ("Open and close by hand: 1 when closed", "手動で開閉し、閉で 1 となること"),
    "contactor_closed": ("Open and close by hand: 1 when closed", "手動で開閉し、閉で 1 となること"),
    "forming": ("Change the mode by hand: 1 while it holds frequency", "モードを切り替え、自立（周波数維持）中に 1 となること"),
    "remote": ("Turn the switch to local and back: 0 in local, and no register moves", "切替器を現場へ：0 となり、書込みが止まること。遠方へ戻す"),
    "ready": ("Bring up and clear a condition that blocks the start", "起動条件を外し、戻して確認"),
    "estop": ("Press and release the button: 1 while pressed", "非常停止釦を押し、押下中に 1 となること"),
    "fault": ("Bring up one harmless fault: is its text right?", "無害な故障を発生させ、文言を確認"),
    "state": ("Compare code and text with the device's display, in two states", "2 つの状態で表示と照合"),
    "fuel_l": ("Note twice under load: does it count up, and by as much as the tank went down?", "負荷運転中に 2 回記録し、タンク減少量と照合"),
    "run_h": ("Compare with the hour meter", "運転時間計と照合"),
    "energy_export_kwh": ("Note twice an hour apart: difference against the mean power", "1 時間おいて 2 回記録し、平均電力と照合"),
    "energy_import_kwh": ("Note twice an hour apart: difference against the mean power", "1 時間おいて 2 回記録し、平均電力と照合"),
    "available_kw": ("At full sun and no limit it equals the power", "快晴・無制限時に出力と一致すること"),
    "level_m": ("Compare with the staff gauge", "水位標と照合"),
    "level_l": ("Compare with a dip stick", "検尺棒と照合"),
    "flow_m3s": ("Compare with the turbine's curve at this power", "この出力での水車特性と照合"),
    "ufls_tripped": ("Trip the under-frequency relay by its test button", "周波数低下継電器を試験釦で動作させ確認"),
}
"""By point: what to do, in English and Japanese."""
OTHERS = ("Compare with the device's display", "機器表示と照合")
COMMANDS: dict[str, tuple[str, str]] = {
    "power_kw": ("Order two setpoints: read back the same, and the power follows", "2 つの指令値を与え、読返し一致と追従を確認"),
    "limit_kw": ("Order a limit under the sun's power: the power goes down; release it", "発電量未満に制限し低下を確認、解除"),
    "running": ("Start and stop it by order; once each, no second pulse", "指令で起動・停止。各 1 回のみ動作"),
    "forming": ("Order forming and following, with another former on the busbar", "別電源の並列中に自立／追従を指令"),
    "breaker": ("Open and close it by order", "指令で開閉"),
}
SPECIAL = {
    "heartbeat": ("Stop the EMS: does it stand still, and does the device notice?", "EMS を停止し、値が止まり機器が検知すること"),
    "on_silence": ("Pull the network cable: does the device do this, after this time?", "LAN ケーブルを抜き、この時間後にこの動作となること"),
}
SWITCHES = (
    "running", "synchronised", "breaker_closed", "contactor_closed", "forming", "remote", "ready", "estop", "ufls_tripped", "breaker",
)  # fmt: skip
BAND = 0.1
"""Frequency and voltage are expected within this share of their nominal value."""
WEATHER = {"ghi_wm2": (0.0, 1400.0), "temperature_c": (-40.0, 60.0), "cell_temp_max_c": (-20.0, 60.0)}
"""Anywhere on Earth, and of a battery that is well."""


def test_of(name: str, what: str) -> str:
    """Return how a point, a command, the heartbeat or the silence is tried, in both languages."""
    found = SPECIAL.get(name) or (COMMANDS if what == "command" else TESTS).get(name, OTHERS)
    return "\n".join(found)


def expected_of(site: SiteInfo, asset: AnyAsset | Feeder, name: str, place: Place) -> str:
    """Return what a point may show or a command may take, in the house unit; empty where nothing is known."""
    if name in SWITCHES or (isinstance(place, Point) and place.bit is not None):
        return "0 | 1"
    if isinstance(place, Command) and (place.min is not None or place.max is not None):
        low, high = _bounds(site, asset, name)
        return _range(place.min if place.min is not None else low, place.max if place.max is not None else high)
    if isinstance(place, Point) and place.text:
        return " | ".join(f"{code} {text.en}" for code, text in place.text.items()) if name == "state" else "0, or one of its codes"
    if name == "fault":
        return "0"
    if isinstance(place, Point) and place.counter:
        return "counts up"
    return _range(*_bounds(site, asset, name))


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f"{'' if low is None else f'{low:g}'} to {'' if high is None else f'{high:g}'}".strip()


def _bounds(site: SiteInfo, asset: AnyAsset | Feeder, name: str) -> tuple[float | None, float | None]:
    """Return the lowest and highest value that the asset's ratings allow."""
    match name, asset:
        case ("power_kw", Inverter()):
            return -asset.rated_kw, asset.rated_kw
        case ("power_kw", Load()):
            return 0.0, asset.peak_kw
        case ("power_kw" | "limit_kw" | "available_kw", Solar() | Hydro() | Diesel()):
            return 0.0, asset.rated_kw
        case ("soc", Battery()):
            return 0.0, 1.0
        case ("frequency_hz", _):
            return (1 - BAND) * site.nominal_hz, (1 + BAND) * site.nominal_hz
        case ("voltage_v", Load() | Diesel() | Inverter() | Hydro()):
            return (1 - BAND) * site.nominal_v, (1 + BAND) * site.nominal_v
        case ("soh", _):
            return 0.5, 1.0
        case ("charge_limit_kw", Battery()):
            return 0.0, asset.charge_kw
        case ("discharge_limit_kw", Battery()):
            return 0.0, asset.discharge_kw
        case ("level_l", Tank()):
            return 0.0, asset.capacity_l
        case _:
            return WEATHER.get(name, (None, None))
