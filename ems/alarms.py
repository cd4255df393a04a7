"""What wants a person's attention now: one alarm per cause, in both languages.

The store compares this set from cycle to cycle: it stamps what is new, clears what is gone, and keeps
one record per cause, however many cycles it lasts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ems.bus import VOLTAGE_S, Bus, BusState, cut_off
from ems.config.site import Diesel, Inverter, Site
from ems.decision import Decision, Reserve
from ems.engines import due
from ems.explain import BLACK_START_CAUSES, STEPS, contingency
from ems.model import AssetImage, Doubt, Flaw, Image
from ems.rotation import SERVICE_NEAR_H, service_in_h
from ems.sequencer import online, startable
from ems.terms import Alarm, Mode

FLAWS: dict[Flaw, tuple[str, str]] = {
    Flaw.RANGE: ("is beyond what it can be", "ありえない値です"),
    Flaw.SIGN: ("has the wrong sign", "符号が逆です"),
    Flaw.SCALED_UP: ("is ten times too high", "10 倍の値です"),
    Flaw.SCALED_DOWN: ("is ten times too low", "10 分の 1 の値です"),
    Flaw.JUMP: ("has jumped, and nothing explains it", "説明のつかない飛びがあります"),
    Flaw.FROZEN: ("is frozen", "固着しています"),
    Flaw.DRIFT: ("has drifted away", "徐々にずれています"),
    Flaw.ZEROED: ("shows nothing but zero", "ゼロしか示しません"),
}
SOURCES: dict[str, tuple[str, str]] = {
    "balance": ("what the balance of the others implies", "他の機器との収支による値"),
    "counted": ("what was counted from the inverter's power", "インバータ電力から積算した値"),
    "last": ("the last value that was believed", "最後に信用できた値"),
}
"""What is wrong and what is used instead, in both languages."""

ORDER_CAUSES: dict[str, tuple[str, str]] = {
    "order_waits_former": ("without {asset} nobody would hold the bus", "{asset} がないと母線を形成する機器がありません"),
    "order_waits_load": ("nobody else can carry {kw} kW of the load now", "負荷のうち {kw} kW を担える他機がありません"),
    "order_waits_reserve": ("without {asset} the reserve would be short by {kw} kW", "{asset} がないと予備力が {kw} kW 不足します"),
}
"""Why an order of an operator waits."""

LastSeen = Mapping[str, tuple[Alarm, float]]
WAITING = (Mode.START, Mode.SAFE, Mode.BLACKSTART)
"""Modes in which there may be nobody yet who holds the bus."""
OFF_DELAY_S = 10.0
"""An alarm stays for this long after its cause was last seen [s]."""


class Alarms:
    """The alarms of one site."""

    def __init__(self, site: Site) -> None:
        self._sets_of = {d.id: d for d in site.of(Diesel)}
        self._diesels = list(self._sets_of)
        self._inverters = {i.id: i.rated_kw for i in site.of(Inverter)}
        self._bus = Bus(site)
        self._batteries = [a.id for a in site.assets if a.kind == "battery"]

    def active(self, image: Image, decision: Decision) -> tuple[Alarm, ...]:
        """Return every active alarm of one cycle."""
        found = [doubted(d) for d in image.doubts]
        uncharged = [b for b in self._batteries if charge_unknown(image.assets[b])]
        found += self._devices(image, uncharged)
        found += unbelievable(image, uncharged)
        found += self._cut_off(image, decision)
        found += self._units(image, decision, uncharged)
        found += self._sets(image, decision)
        found += self._feeders(decision)
        found += waiting_orders(decision)
        found += self._island(image, decision)
        return tuple(found)

    def held(self, found: Sequence[Alarm], before: LastSeen, image: Image) -> tuple[tuple[Alarm, ...], LastSeen]:
        """Return the alarms with those that went less than `OFF_DELAY_S` ago, and when each was last seen to have a cause.

        A cause that comes and goes with every other answer of a device is one alarm, not one a second.
        """
        if not found and not before:
            return (), before
        now_s = image.now_s
        seen = {f"{a.code}:{a.asset}": (a, now_s) for a in found}
        if image.dt_s < OFF_DELAY_S:
            seen |= {key: (a, at) for key, (a, at) in before.items() if key not in seen and 0.0 <= now_s - at < OFF_DELAY_S}
        return tuple(a for a, _ in seen.values()), seen

    def _devices(self, image: Image, uncharged: Collection[str]) -> list[Alarm]:
        found = []
        explained = {d.asset for d in image.doubts}
        for asset, unit in image.assets.items():
            if asset in uncharged:
                pass  # it answers, but not with its charge: that has its own alarm
            elif not unit.seen:
                if asset in explained:
                    continue
                found.append(
                    Alarm("silent", "major", asset, f"{asset} does not answer; its last values are not used", f"{asset} が応答しません。最後の値は使いません")
                )
            elif unit.fault:
                found.append(Alarm("fault", "major", asset, f"{asset} reports a fault", f"{asset} が故障を報告しています"))
            elif not unit.follows and asset not in explained:
                found.append(Alarm("astray", "warning", asset, f"{asset} does not follow its setpoint", f"{asset} が設定値に追従していません"))
            if unit.flag("estop"):
                found.append(Alarm("estop", "critical", asset, f"emergency stop of {asset} is pressed", f"{asset} の非常停止が押されています"))
        return found

    def _cut_off(self, image: Image, decision: Decision) -> list[Alarm]:
        """Return the inverters that run behind their own open breaker, though nobody has taken them off; a black start closes breakers in its turn."""
        found = []
        for i, rated_kw in self._inverters.items():
            unit, limits, manual = image.assets[i], decision.memory.limits.get(i), decision.memory.manual.get(i)
            taken_off = (limits is not None and limits.out_of_service) or (manual is not None and manual.run is False)
            idle = unit.seen and not unit.fault and unit.flag("running") is not False and cut_off(unit, rated_kw)
            if idle and not taken_off and decision.mode is not Mode.BLACKSTART:
                en, ja = (
                    f"{i} runs behind its open breaker: it neither holds the bus nor counts as reserve",
                    f"{i} は遮断器が開いたまま運転しています。母線形成にも予備力にも数えません",
                )
                found.append(Alarm("breaker_open", "major", i, en, ja))
        return found

    def _units(self, image: Image, decision: Decision, uncharged: Collection[str]) -> list[Alarm]:
        found = []
        for d in self._diesels:
            unit = decision.memory.units.get(d)
            if unit is not None and unit.barred:
                found.append(
                    Alarm(
                        "locked",
                        "major",
                        d,
                        f"{d} is locked out after failed starts or a fault; release it by hand",
                        f"{d} はロックアウト中です。手動で解除してください",
                    )
                )
        explained = {d.asset for d in image.doubts}
        for b in uncharged:
            if b in explained:
                continue
            battery = image.assets[b]
            soc, band = battery.get("soc"), 100.0 * (battery.get("soc_band") or 0.0)
            if soc is None:
                en, ja = f"the charge of {b} is unknown; it is held idle", f"{b} の充電率が不明です。充放電を止めています"
            else:
                en = f"{b} does not tell its charge; it is counted on from the inverter's power, {100.0 * soc:.0f} % give or take {band:.1f}"
                ja = f"{b} の充電率が届きません。インバータ電力から積算しています（{100.0 * soc:.0f} % ±{band:.1f}）"
            found.append(Alarm("soc_unknown", "major", b, en, ja))
        return found

    def _sets(self, image: Image, decision: Decision) -> list[Alarm]:
        """What the diesels' sequences and hours want of people."""
        found = []
        units, now_s = decision.memory.units, image.now_s
        for d, diesel in self._sets_of.items():
            unit, run_h = units.get(d), image.assets[d].get("run_h")
            if unit is not None and unit.held_until_s is not None and now_s < unit.held_until_s:
                en = f"the bus could not be handed over from {d}: it keeps running and tries again later"
                found.append(Alarm("hand_over_failed", "warning", d, en, f"{d} から母線を引き渡せませんでした。運転を続け、後で再試行します"))
            engine = decision.memory.engines.get(d)
            if engine is not None and due(engine):
                en = f"{d} has run {engine.low_s / 3600.0:.1f} h under its minimum loading: it is burnt clean when it runs and the battery has room"
                ja = f"{d} は最低負荷未満で {engine.low_s / 3600.0:.1f} 時間運転しました。運転中に蓄電池の余裕があれば高負荷運転で清浄化します"
                found.append(Alarm("wet_stacking", "warning", d, en, ja))
            if run_h and (left_h := service_in_h(diesel, run_h)) <= SERVICE_NEAR_H:
                found.append(service_due(d, left_h))
        if self._sets_of and decision.mode not in (Mode.START, Mode.SAFE) and not self._any_to_start(image, decision):
            found.append(
                Alarm(
                    "no_diesel",
                    "major",
                    None,
                    "no diesel can be started now: the battery is all there is",
                    "起動できるディーゼル発電機がありません。蓄電池だけが頼りです",
                )
            )
        return found

    def _any_to_start(self, image: Image, decision: Decision) -> bool:
        """Whether a diesel runs or could be started."""
        units = decision.memory.units
        if online(units):
            return True
        return any(d in units and startable(diesel, units[d], image.assets[d], image.now_s, economic=False) for d, diesel in self._sets_of.items())

    def _feeders(self, decision: Decision) -> list[Alarm]:
        """Return what stands about feeders: load that is shed, lock-outs, breakers that do not obey."""
        found = []
        feeders = decision.memory.feeders
        dark = {f: m for f, m in feeders.items() if m.opened_by in ("ems", "relay") and not m.locked}
        if dark:
            names, kw = ", ".join(dark), f"{sum(m.drawn_kw or 0.0 for m in dark.values()):.0f}"
            found.append(Alarm("load_shed", "major", None, f"load is shed: {kw} kW on {names}", f"負荷を遮断しています：{names}（{kw} kW）"))
        for f, mine in feeders.items():
            if mine.locked:
                found.append(
                    Alarm(
                        "feeder_locked",
                        "major",
                        f,
                        f"{f} is locked out: its relay opens it again and again; find the cause, then restore it",
                        f"{f} はリレー動作を繰り返したためロックアウト中です。原因を確認し、手動で復電してください",
                    )
                )
            if mine.stuck_s is not None:
                found.append(Alarm("breaker_stuck", "major", f, f"the breaker of {f} does not obey", f"{f} の遮断器が指令どおりに動作しません"))
        return found

    def _black_start(self, decision: Decision) -> list[Alarm]:
        """Return that a black start is under way, or at which step the last one failed and why."""
        start = decision.memory.black_start
        if start is None or start.cause == "alive":
            return []
        step = STEPS.get(start.failed_at or start.step, (start.step, start.step))
        if not start.cause:
            return [Alarm("black_start", "warning", None, f"black start by {start.former}: {step[0]}", f"{start.former} によるブラックスタート中：{step[1]}")]
        en, ja = (text.format(detail=start.detail) for text in BLACK_START_CAUSES[start.cause])
        return [
            Alarm(
                "black_start_failed",
                "major",
                None,
                f"the black start by {start.former} failed while {step[0]}: {en}; clear the cause and order it again",
                f"{start.former} によるブラックスタートは「{step[1]}」で失敗しました：{ja}。原因を除いて再度指令してください",
            )
        ]

    def _island(self, image: Image, decision: Decision) -> list[Alarm]:
        """Return what stands about the island as a whole: its mode, who holds the bus, reserve, voltage, and who else writes."""
        mode = decision.mode
        found = self._waiting(image, decision) if mode in WAITING else self._dispatching(decision)
        if decision.reserve.short_kw > 0.1 and mode not in (Mode.START, Mode.BLACKSTART):
            found.append(reserve_short(decision.reserve))
        off_s = decision.memory.volts_off_s
        if off_s is not None and image.now_s - off_s >= VOLTAGE_S and decision.formers:
            en = f"voltage is {image.voltage_v:.0f} V, out of its band: nothing is handed over or restored"
            found.append(Alarm("voltage", "major", None, en, f"電圧が {image.voltage_v:.0f} V で範囲外です。引き渡しと復電を止めています"))
        found += [second_controller(asset, how) for asset, how in image.rivals.items()]
        if not image.load_known:
            found.append(
                Alarm("load_unknown", "major", None, "the load cannot be seen; the last known value is used", "負荷が計測できません。直前の値を使います")
            )
        return found

    def _dispatching(self, decision: Decision) -> list[Alarm]:
        """Return what is wrong while power is shared: no plan, nobody who holds the bus."""
        found = []
        if decision.mode is Mode.FALLBACK:
            found.append(Alarm("no_plan", "warning", None, "no valid plan: the site's rules are followed", "有効な計画がありません。ルール運転中です"))
        found += self._black_start(decision)
        if not decision.formers:
            found.append(Alarm("no_former", "critical", None, "no unit is known to hold the bus", "母線を形成する機器が確認できません"))
        return found

    def _waiting(self, image: Image, decision: Decision) -> list[Alarm]:
        """Return what a mode in which nothing is dispatched waits for: a stop, a dead bus, nobody who is proven to hold it."""
        found = []
        if decision.mode is Mode.SAFE:
            found.append(
                Alarm("safe", "critical", None, "stopped: safe values are written, heartbeats are off", "停止中：安全値を書き込み、ハートビートを止めました")
            )
        bus = self._bus.found(image)
        dead = bus.state is BusState.DEAD
        if dead and decision.mode is not Mode.BLACKSTART:
            names = ", ".join(bus.dead)
            found.append(
                Alarm(
                    "dead_bus",
                    "critical",
                    None,
                    f"the bus is dead ({names} find it so): clear the cause, then order a black start; nothing is started by itself",
                    f"母線が停電しています（{names} で確認）。原因を除いてからブラックスタートを指令してください。自動では始動しません",
                )
            )
        found += self._black_start(decision)
        if not decision.formers and decision.mode is Mode.START and not dead:
            found.append(
                Alarm(
                    "start_waits",
                    "major",
                    None,
                    "start waits: no unit is proven to hold the bus; an operator must act",
                    "起動待ち：母線を形成する機器が確認できません。運転員の操作が必要です",
                )
            )
        return found


def reserve_short(reserve: Reserve) -> Alarm:
    """Return the alarm for reserve that is not held: by how much, and for what."""
    short = f"{reserve.short_kw:.0f}"
    return Alarm(
        "reserve_short",
        "warning",
        None,
        f"reserve is short by {short} kW ({contingency(reserve.contingency, 0)})",
        f"予備力が {short} kW 不足しています（{contingency(reserve.contingency, 1)}）",
    )


def waiting_orders(decision: Decision) -> list[Alarm]:
    """Return an alarm for every order of an operator that is not carried out yet: why, and what it waits for."""
    if not decision.memory.manual and not decision.memory.limits:
        return []
    found = []
    for asset, decided in decision.assets.items():
        cause = next((c for c in decided.why.limited_by if c in ORDER_CAUSES), None)
        if cause is not None:
            en, ja = (text.format(asset=asset, kw=decided.why.numbers.get("order_kw", "?")) for text in ORDER_CAUSES[cause])
            text = f"the order for {asset} waits: {en}; it is obeyed as soon as others can do that", f"{asset} への指示は待機中：{ja}。他機が担え次第実行します"
            found.append(Alarm("order_waits", "warning", asset, *text))
    return found


def service_due(diesel: str, left_h: float) -> Alarm:
    """Return the alarm of a service that is near, or overdue [h of running]."""
    if left_h > 0.0:
        en, ja = f"{diesel} is due for service in {left_h:.0f} run hours", f"{diesel} は運転時間あと {left_h:.0f} 時間で点検です"
    else:
        en, ja = f"{diesel} has been due for service for {-left_h:.0f} run hours", f"{diesel} は点検時期を運転時間で {-left_h:.0f} 時間過ぎています"
    return Alarm("service_due", "warning", diesel, en, ja)


def second_controller(asset: str, how: str) -> Alarm:
    """Return the alarm for somebody else who writes to a device of ours."""
    return Alarm(
        "second_controller",
        "critical",
        asset,
        f"another controller writes to {asset} ({how}): nothing is written until it is off and stage control is ordered again",
        f"別の制御装置が {asset} に書き込んでいます。それを停止し、ステージ control を再度指令するまで書き込みません",
    )


def unbelievable(image: Image, uncharged: Collection[str]) -> list[Alarm]:
    """Return one alarm for each device that shows what cannot be, naming the points, but for those of which another alarm speaks."""
    told = {(d.asset, d.point) for d in image.doubts} | {(b, "soc") for b in uncharged}
    found = []
    for asset, unit in image.assets.items():
        points = ", ".join(p for p in unit.refused if (asset, p) not in told) if unit.seen else ""
        if points:
            en, ja = f"{asset} shows what cannot be: {points} is not used", f"{asset} の {points} がありえない値です。使いません"
            found.append(Alarm("refused", "warning", asset, en, ja))
    return found


def charge_unknown(battery: AssetImage) -> bool:
    """Whether a battery answers, but not with its charge."""
    if battery.silent_s != 0.0 or (battery.points.get("soc") is not None and "soc" not in battery.suspect):
        return False
    return any(value is not None for point, value in battery.points.items() if point not in battery.suspect)


def doubted(doubt: Doubt) -> Alarm:
    """Return the alarm for a value that is not believed: which, what is wrong with it, and what is used instead."""
    if doubt.flaw is Flaw.BALANCE:
        off = f"{doubt.shown or 0.0:+.0f}"
        en = f"sources and loads differ by {off} kW and nobody can be blamed; no value is replaced, reserve is held for it"
        return Alarm(
            "balance", "warning", None, en, f"発電と負荷の収支が {off} kW 合いません。原因を特定できないため値は置き換えず、その分の予備力を確保します"
        )
    wrong, source = FLAWS[doubt.flaw], SOURCES.get(doubt.source, ("nothing", "なし"))
    shown, used = _value(doubt.point, doubt.shown), _value(doubt.point, doubt.used)
    en = f"{doubt.asset} {doubt.point} {wrong[0]} ({shown}); used instead: {source[0]} ({used})"
    ja = f"{doubt.asset} の {doubt.point} は{wrong[1]}（{shown}）。代わりに使う値：{source[1]}（{used}）"
    return Alarm("doubt_soc" if doubt.point == "soc" else "doubt", "major", doubt.asset, en, ja)


def _value(point: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100.0 * value:.0f} %" if point == "soc" else f"{value:.0f} kW"
