"""Every reason is a sentence in both languages, with the numbers that it needs and without those it lacks."""

from __future__ import annotations

from itertools import product

import pytest

from ems.decision import AssetDecision
from ems.explain import CONTINGENCIES, GUARDS, ORDER_WAITS, SENTENCES, contingency, sentence
from ems.guards import GUARDS as BOUNDS
from ems.terms import Explanation, Reason

SHORT: dict[str, float | str] = {"short_kw": 85.0, "required_kw": 210.0, "available_kw": 125.0, "contingency": "solar"}


@pytest.mark.parametrize(
    ("decision", "en", "ja"),
    [
        (
            AssetDecision(None, True, Explanation(Reason.RESERVE, ("solar",), SHORT)),
            "dg1 runs because reserve is short by 85.0 kW: a cloud needs 210.0 kW and the others can add 125.0 kW",
            "dg1 は予備力が 85.0 kW 不足するため運転します：雲 に 210.0 kW 必要、他機の余力は 125.0 kW",
        ),
        (
            AssetDecision(None, True, Explanation(Reason.RESERVE, ("loss of dg2",), {**SHORT, "contingency": "loss of dg2"})),
            "dg1 runs because reserve is short by 85.0 kW: the loss of dg2 needs 210.0 kW and the others can add 125.0 kW",
            "dg1 は予備力が 85.0 kW 不足するため運転します：dg2 の脱落 に 210.0 kW 必要、他機の余力は 125.0 kW",
        ),
        (AssetDecision(48.4, True, Explanation(Reason.PLAN)), "dg1 follows the plan: 48 kW", "dg1 は計画に従っています: 48 kW"),
        (
            AssetDecision(80.0, None, Explanation(Reason.LIMIT, ("operator_limit", "kva"))),
            "dg1 is at its limit of 80 kW (held by an operator's limit; reactive power)",
            "dg1 は上限 80 kW です（運転員の制限、無効電力による）",
        ),
        (
            AssetDecision(60.0, None, Explanation(Reason.SURPLUS, (), {"setpoint_kw": 60.0, "curtailed_kw": 40.0})),
            "dg1 is at 60.0 kW because of surplus; 40.0 kW are left unused",
            "dg1 は余剰のため 60.0 kW です（40.0 kW を抑制）",
        ),
        (
            AssetDecision(None, True, Explanation(Reason.FORMER_NEEDED, ("demand",), {"short_kw": 12.0})),
            "dg1 runs because without it nobody could carry the island: 12.0 kW are missing",
            "dg1 は他に島の需要を担える機器がないため運転します（12.0 kW 不足）",
        ),
        (
            AssetDecision(None, True, Explanation(Reason.FORMING, ("order_waits_load",), {"order_kw": "304"})),
            "dg1 holds the bus: its power is what the others leave over; an operator's order waits until others carry its 304 kW",
            "dg1 が母線を形成しています。出力は残りの需要で決まります。運転員の指示は、他機が 304 kW を担えるまで待機中です",
        ),
        (
            AssetDecision(150.0, True, Explanation(Reason.FOLLOWS_RIVER, ("order_waits_reserve",), {"order_kw": "40"})),
            "dg1 takes what the river gives; an operator's order waits until the others hold the reserve, 40 kW would be missing",
            "dg1 は河川流量に従っています。運転員の指示は、他機の予備力が揃うまで待機中です（40 kW 不足）",
        ),
        (
            AssetDecision(None, True, Explanation(Reason.FORMING, ("order_waits_former",))),
            "dg1 holds the bus: its power is what the others leave over; an operator's order waits, since without dg1 nobody would hold the bus",
            "dg1 が母線を形成しています。出力は残りの需要で決まります。運転員の指示は、dg1 がないと母線を形成する機器がなくなるため待機中です",
        ),
        (AssetDecision(None, False, Explanation(Reason.NOT_NEEDED)), "dg1 is not needed", "dg1 は必要ありません"),
    ],
)
def test_sentences(decision: AssetDecision, en: str, ja: str) -> None:
    assert sentence("dg1", decision, "en") == en
    assert sentence("dg1", decision, "ja") == ja


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_sentence_whatever_numbers_are_missing(reason: Reason) -> None:
    """A recorded decision of another version may lack a number: the page shows a question mark, never an error."""
    for setpoint, guards, lang in product((None, 12.3), ((), tuple(GUARDS), tuple(ORDER_WAITS), ("a guard of tomorrow",)), ("en", "ja")):
        text = sentence("dg1", AssetDecision(setpoint, None, Explanation(reason, guards)), lang)
        assert "dg1" in text and "{" not in text
        assert text.isascii() is (lang == "en")
    assert set(SENTENCES) == set(Reason)


def test_every_guard_can_be_named() -> None:
    said = {name for name, *_ in BOUNDS if name != "soc"} | {"soc_full", "soc_empty", "operator", "min_loading", "min_up", "adopted", "demand"}
    assert said <= set(GUARDS)


@pytest.mark.parametrize("language", [0, 1])
def test_contingencies(language: int) -> None:
    assert all(contingency(name, language) == words[language] for name, words in CONTINGENCIES.items())
    assert contingency("loss of pv1", language) == ("the loss of pv1", "pv1 の脱落")[language]
