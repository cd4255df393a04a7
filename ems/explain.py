"""Reasons as sentences with numbers, in English and Japanese."""

from __future__ import annotations

from collections import defaultdict

from ems.decision import AssetDecision
from ems.terms import Reason

SENTENCES: dict[Reason, tuple[str, str]] = {
    Reason.PLAN: ("{asset} follows the plan{power}", "{asset} は計画に従っています{power}"),
    Reason.RULES: ("{asset} follows the site's rules{power}", "{asset} は運転ルールに従っています{power}"),
    Reason.FORMING: ("{asset} holds the bus: its power is what the others leave over", "{asset} が母線を形成しています。出力は残りの需要で決まります"),
    Reason.FORMER_NEEDED: (
        "{asset} runs because without it nobody could carry the island{short}",
        "{asset} は他に島の需要を担える機器がないため運転します{short}",
    ),
    Reason.RESERVE: (
        "{asset} runs because reserve is short by {short_kw} kW: {contingency} needs {required_kw} kW and the others can add {available_kw} kW",
        "{asset} は予備力が {short_kw} kW 不足するため運転します：{contingency} に {required_kw} kW 必要、他機の余力は {available_kw} kW",
    ),
    Reason.SURPLUS: ("{asset} is at {setpoint_kw} kW because of surplus{curtailed}", "{asset} は余剰のため {setpoint_kw} kW です{curtailed}"),
    Reason.LIMIT: ("{asset} is at its limit of {setpoint_kw} kW", "{asset} は上限 {setpoint_kw} kW です"),
    Reason.SEQUENCE: ("{asset} is in its sequence", "{asset} は手順の途中です"),
    Reason.OPERATOR: ("{asset} obeys an operator's order{power}", "{asset} は運転員の指示に従っています{power}"),
    Reason.NOT_NEEDED: ("{asset} is not needed", "{asset} は必要ありません"),
    Reason.FOLLOWS_RIVER: ("{asset} takes what the river gives", "{asset} は河川流量に従っています"),
    Reason.FOLLOWS_SUN: ("{asset} gives all the sun offers", "{asset} は日射に応じて全量発電しています"),
    Reason.FAULT: ("{asset} is out: it reports a fault or its starts failed", "{asset} は故障または起動失敗のため停止しています"),
    Reason.LOCAL: ("{asset} is under local control: it is not commanded", "{asset} は現場操作中のため指令しません"),
    Reason.UNSEEN: ("{asset} does not answer: nothing is assumed of it", "{asset} は応答がないため当てにしません"),
    Reason.SAFE: ("{asset} is left as it is: the site is stopped", "停止中のため {asset} はそのままです"),
    Reason.SUPPLIED: ("{asset} is supplied", "{asset} は送電中です"),
    Reason.SHED: ("{asset} is shed", "{asset} は遮断中です"),
    Reason.BLACK_START: ("{asset} takes part in the black start: {step}", "{asset} はブラックスタート手順中です（{step}）"),
}

SHED: dict[str, tuple[str, str]] = {
    "overload": (" because {short_kw} kW are missing", "：{short_kw} kW 不足しています"),
    "energy": (
        " because stored energy would last {lasts_min} min and has to last {needed_min} min, until {waits_for} is there",
        "：蓄電エネルギーは残り約 {lasts_min} 分、{waits_for} まで {needed_min} 分必要です",
    ),
    "turn": (" in turn, and {instead} comes back instead", "：輪番のため {instead} と交代します"),
    "relay": (": its relay opened it", "：保護リレーが開放しました"),
    "ems": (": it was open when it was given back", "：開放のまま自動に戻されました"),
    "black_start": (" for the black start", "：ブラックスタートのため開放しました"),
    "locked_out": (": its relay opened it again and again, and a person must restore it", "：リレー動作を繰り返したため、人による復電操作が必要です"),
    "waits_in_band": ("; frequency and voltage must be in band for {band_s} s first", "。周波数と電圧の安定（{band_s} 秒）を待っています"),
    "waits_reserve": ("; it comes back when {asked_kw} kW can be added, now {room_kw} kW", "。余力 {asked_kw} kW で復電します（現在 {room_kw} kW）"),
    "waits_energy": ("; stored energy does not carry it yet", "。蓄電エネルギーの回復を待っています"),
    "waits_turn": ("; it comes back in its turn", "。順番に復電します"),
}
"""Why a feeder is shed, and what it waits for."""

GUARDS: dict[str, tuple[str, str]] = {
    "operator_limit": ("an operator's limit", "運転員の制限"),
    "operator": ("an operator's setpoint", "運転員の設定値"),
    "out_of_service": ("it is out of service", "使用停止中"),
    "no_battery": ("it has no battery", "蓄電池がない"),
    "soc_full": ("the battery is full", "蓄電池が満充電"),
    "soc_empty": ("the battery is at its floor", "蓄電池が下限"),
    "soc_unknown": ("its charge is unknown", "充電率が不明"),
    "bms": ("the battery's own limit", "蓄電池（BMS）の制限"),
    "kva": ("reactive power", "無効電力"),
    "min_loading": ("its minimum loading", "最低負荷率"),
    "min_up": ("its minimum running time", "最低運転時間"),
    "hand_over": ("another set is on its way", "他号機の投入待ち"),
    "hand_over_failed": ("the last hand-over failed and was taken back", "母線の引き渡しに失敗し、復帰"),
    "handover_nobody": ("nobody else holds the bus", "母線を引き継ぐ機器がない"),
    "handover_local": ("the unit that would take the bus is under local control", "引き継ぐ機器が現場操作中"),
    "handover_band": ("frequency or voltage is out of band", "周波数または電圧が範囲外"),
    "handover_soc": ("the battery is too low to take the bus", "母線を引き継ぐには充電率が低い"),
    "handover_kva": ("the inverter cannot carry the reactive power as well", "インバータが無効電力を負担できない"),
    "handover_down": ("nobody could take back the largest feeder", "最大フィーダ脱落時の余剰を吸収できない"),
    "headroom": ("the others could not take back more", "他機が吸収できる余地"),
    "adopted": ("it was found running", "運転中を確認して引き継ぎ"),
    "demand": ("the demand", "需要"),
    "start": ("the controller is starting", "制御の起動中"),
    "safe": ("the site is stopped", "停止中"),
    "black_start": ("the black start", "ブラックスタート中"),
    "load": ("a load step", "負荷変動"),
    "solar": ("clouds", "雲による変動"),
    "forecast": ("the forecast's error", "予測誤差"),
}

ORDER_WAITS: dict[str, tuple[str, str]] = {
    "order_waits_former": (
        "; an operator's order waits, since without {asset} nobody would hold the bus",
        "。運転員の指示は、{asset} がないと母線を形成する機器がなくなるため待機中です",
    ),
    "order_waits_load": ("; an operator's order waits until others carry its {order_kw} kW", "。運転員の指示は、他機が {order_kw} kW を担えるまで待機中です"),
    "order_waits_reserve": (
        "; an operator's order waits until the others hold the reserve, {order_kw} kW would be missing",
        "。運転員の指示は、他機の予備力が揃うまで待機中です（{order_kw} kW 不足）",
    ),
}
"""Why an order is not carried out yet (`ems.waiting`)."""

CONTINGENCIES: dict[str, tuple[str, str]] = {
    "load": ("a load step", "負荷変動"),
    "solar": ("a cloud", "雲"),
    "forecast": ("the forecast's error of late", "最近の予測誤差"),
}


STEPS: dict[str, tuple[str, str]] = {
    "isolate": ("opening feeders", "配電線の開放"),
    "energise": ("energising the bus", "母線の加圧"),
    "prove": ("proving frequency and voltage", "周波数・電圧の確認"),
    "auxiliaries": ("feeding the auxiliaries", "所内負荷の供給"),
    "feeders": ("restoring feeders", "配電線の復電"),
    "solar": ("letting PV in", "太陽光の投入"),
    "roll_back": ("going back", "中止処理"),
}
"""Steps of a black start."""


BLACK_START_CAUSES: dict[str, tuple[str, str]] = {
    "breakers": ("{detail} did not open", "{detail} が開放しませんでした"),
    "energise": ("{detail} did not bring up the bus in time", "{detail} が時間内に母線を加圧できませんでした"),
    "locked": ("the starts of {detail} failed", "{detail} の始動に失敗しました"),
    "lost": ("{detail} lost the bus again", "{detail} が母線を失いました"),
    "unsteady": ("frequency or voltage did not settle", "周波数または電圧が安定しませんでした"),
    "dead_again": ("the bus died again", "母線が再び停電しました"),
    "operator": ("an operator called it off", "運転員が中止しました"),
    "stop": ("the emergency stop", "非常停止"),
    "restart": ("the EMS was restarted", "EMSが再起動しました"),
}
"""Why a black start failed."""


def contingency(name: str, language: int) -> str:
    """Return a contingency in words: language 0 is English, 1 Japanese."""
    if name in CONTINGENCIES:
        return CONTINGENCIES[name][language]
    lost = name.removeprefix("loss of ")
    return (f"the loss of {lost}", f"{lost} の脱落")[language]


WHOLE = ("band_s", "short_kw", "asked_kw", "room_kw", "lasts_min", "needed_min")
"""What is said of feeders in whole numbers."""


def _number(value: float | str) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def sentence(asset: str, decision: AssetDecision, lang: str) -> str:
    """Return why an asset does what it does, in one sentence.

    Parameters
    ----------
    asset : str
    decision : AssetDecision
    lang : str
        `en | ja`.
    """
    language = 1 if lang == "ja" else 0
    numbers = decision.why.numbers
    power = "" if decision.setpoint_kw is None else f": {decision.setpoint_kw:.0f} kW"
    short = (f": {numbers['short_kw']} kW are missing", f"（{numbers['short_kw']} kW 不足）")[language] if "short_kw" in numbers else ""
    lost = numbers.get("curtailed_kw")
    curtailed = (f"; {lost} kW are left unused", f"（{lost} kW を抑制）")[language] if lost else ""
    words: dict[str, object] = {"setpoint_kw": "?" if decision.setpoint_kw is None else f"{decision.setpoint_kw:.0f}", **numbers}
    if "contingency" in numbers:
        words["contingency"] = contingency(str(numbers["contingency"]), language)
    words.update(asset=asset, power=power, short=short, curtailed=curtailed)
    words.update({k: _number(v) for k, v in numbers.items() if k in WHOLE and decision.why.reason is Reason.SHED})
    if numbers.get("waits_for") == "sun":
        words["waits_for"] = ("the sun", "日射")[language]
    if "step" in numbers:
        words["step"] = STEPS.get(str(numbers["step"]), (str(numbers["step"]),) * 2)[language]
    said = SENTENCES[decision.why.reason][language]
    if decision.why.reason is Reason.SHED:
        said += "".join(SHED[c][language] for c in decision.why.limited_by if c in SHED)
    said += "".join(ORDER_WAITS[c][language] for c in decision.why.limited_by if c in ORDER_WAITS)
    said = said.format_map(defaultdict(lambda: "?", words))
    causes = [GUARDS[g][language] for g in decision.why.limited_by if g in GUARDS]
    if causes and decision.why.reason not in (Reason.RESERVE, Reason.FORMER_NEEDED):
        said += (" (held by {})", "（{}による）")[language].format(("; ", "、")[language].join(causes))
    return said
