"""Whose power is wrong when the balance does not close.

Four kinds of evidence, strongest first: one alone has not moved and closes the balance if it gives what it was told;
one power moved when the balance opened and nobody answered it; one that was lively shows the same bits while the
others move; one alone closes the balance when a factor of 10 or its sign is taken back. Where they name nobody, or
two, nobody is replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import exp

from ems.balance import BalanceSheet, Flow, possible
from ems.doubt_memory import Onset, Pace
from ems.frozen import changed
from ems.model import NOTHING, Flaw

TYPICAL_S = 5.0
"""A jump by a typical fault (factor of 10, sign, zero) is believed after this time [s]; devices are read up to 2 s apart."""
UNCLOSED_S = 10.0
"""Any other evidence needs a balance that has been open for this long [s]."""
FACTOR_S = 30.0
"""A factor or sign that closes the balance without a jump has to go on doing so for this long [s], while the power moves."""
LAG_S = 3.0
"""Readings may be this far apart [s]: what moved in this time may not have reached the others yet."""
BLAMED = 0.6
"""The one who moved explains at least this share of the residual, and nobody else half as much as that."""
LIKE = 0.25
"""A factor is recognised within this share: the balance knows the true value only so well."""
STILL_S, STILL_PAUSES = 30.0, 5.0
"""A power is frozen that shows the same bits for this time [s] and for so many times its longest usual pause."""
DEAD_S = 45.0
"""... and frozen even where the balance is hardly open, if it has shown them for this time [s] while the others moved."""
IDLE = 0.01
"""Under this share of its rating a unit idles, and rightly shows the same."""
CREPT_S = 60.0
"""A balance that opened little by little is the load meter's doing once it has been open for this long [s] ..."""
CREPT_SHARE = 0.10
"""... by this share of what it shows."""
FADE = 0.98
"""By how much a remembered pause fades with each move."""


def paces(
    sheet: BalanceSheet, memory: Mapping[str, Pace], powers: Mapping[str, float], residual_kw: float | None, lag_kw: float, now_s: float, dt_s: float
) -> tuple[dict[str, Pace], float]:
    """Return how lively each power is now, and how much of a residual may come from reading one device after the other [kW].

    The latter is half of all that moved (a move and its answer are the same kW) beyond meter error, forgotten with `LAG_S`.
    """
    found, moved = {}, 0.0
    for f in sheet.flows:
        unit = f.id
        power, pace = powers.get(unit), memory.get(unit)
        if power is None:
            continue
        if pace is None:
            found[unit] = Pace(power, now_s, None, residual_kw)
        elif pace.shown_kw == power:
            found[unit] = pace
        else:
            pause, usual = now_s - pace.since_s, pace.pause_s
            if usual is not None and FADE * usual > pause:
                pause = FADE * usual
            found[unit] = Pace(power, now_s, pause, residual_kw)
            beyond = abs(power - pace.shown_kw) - f.noise_kw
            if beyond > 0.0:
                moved += beyond
    return found, lag_kw * exp(-dt_s / LAG_S) + 0.5 * moved


def opened(sheet: BalanceSheet, onset: Onset | None, last: Mapping[str, Pace], shown: Mapping[str, float], residual_kw: float, now_s: float) -> Onset:
    """Return the onset of a balance that does not close, with the step that opened it most."""
    before = {f.id: last[f.id].shown_kw for f in sheet.flows if f.id in last}
    if onset is None:
        return Onset(now_s, residual_kw, now_s, residual_kw - (sheet.residual_kw(before) or 0.0), before, shown)
    step = residual_kw - onset.residual_kw
    if abs(step) <= abs(onset.step_kw):
        return changed(onset, residual_kw=residual_kw, closed_s=None)
    return changed(onset, residual_kw=residual_kw, closed_s=None, step_s=now_s, step_kw=step, before=before, after=shown)


def dead(
    sheet: BalanceSheet,
    shown: Mapping[str, float],
    pace: Mapping[str, Pace],
    residual_kw: float,
    tolerance_kw: float,
    now_s: float,
    obeying: Collection[str] = (),
) -> str | None:
    """Return the one whose meter is frozen: it was lively, shows the same bits for long, and the balance went away from it meanwhile."""
    found, latest = None, now_s - DEAD_S
    for f in sheet.flows:
        if f.id in obeying:
            continue
        p = pace[f.id]
        if p.since_s > latest or p.residual_kw is None or abs(residual_kw - p.residual_kw) <= tolerance_kw:
            continue
        if _still(f, p, now_s) and possible(f, _implied(f, shown, residual_kw)):
            if found is not None:
                return None
            found = f.id
    return found


def suspected(
    sheet: BalanceSheet,
    onset: Onset,
    shown: Mapping[str, float],
    pace: Mapping[str, Pace],
    tolerance_kw: float,
    now_s: float,
    told: Mapping[str, float] = NOTHING,
) -> str | None:
    """Return the one that has just moved as a typical fault does: its new value waits until `accuse` has seen enough.

    Nobody waits while somebody else is named by what it was told: who moved may have answered that.
    """
    if now_s - onset.step_s > TYPICAL_S + 1.0 or _unmoved(sheet, onset, shown, pace, told, tolerance_kw) is not None:
        return None
    mover = _mover(sheet, onset)
    return mover.id if mover is not None and _typical(mover, shown[mover.id], onset.residual_kw, tolerance_kw) is not None else None


def accuse(
    sheet: BalanceSheet,
    onset: Onset,
    shown: Mapping[str, float],
    pace: Mapping[str, Pace],
    tolerance_kw: float,
    now_s: float,
    obeying: Collection[str] = (),
    told: Mapping[str, float] = NOTHING,
) -> tuple[Onset, Flaw | None]:
    """Return the onset, and the flaw of the one it accuses; None while nobody can be told.

    Parameters
    ----------
    sheet : BalanceSheet
    onset : Onset
    shown : Mapping[str, float]
        All powers of this cycle as their meters show them [kW].
    pace : Mapping[str, Pace]
    tolerance_kw : float
        What healthy meters may leave open [kW].
    now_s : float
        [s].
    obeying : Collection[str]
        Who shows what it was told to give: it rightly shows the same for as long as that is the same.
    told : Mapping[str, float]
        The power that each unit was last told to give, but for the leader's [kW].
    """
    open_s, step_ago_s, residual = now_s - onset.since_s, now_s - onset.step_s, onset.residual_kw
    if open_s < TYPICAL_S:
        return onset, None
    unmoved = _unmoved(sheet, onset, shown, pace, told, tolerance_kw)
    if unmoved is not None:
        return changed(onset, accused=unmoved.id), Flaw.ZEROED if shown[unmoved.id] == 0.0 else Flaw.FROZEN
    mover = _mover(sheet, onset)
    if mover is not None and step_ago_s >= TYPICAL_S:
        flaw = _typical(mover, shown[mover.id], residual, tolerance_kw)
        if flaw is not None:
            return changed(onset, accused=mover.id), flaw
    if open_s < UNCLOSED_S:
        return onset, None
    still = [f for f in sheet.flows if f.id not in obeying and _still(f, pace[f.id], now_s) and possible(f, _implied(f, shown, residual))]
    if len(still) == 1:
        return changed(onset, accused=still[0].id), Flaw.FROZEN
    if mover is not None and step_ago_s >= UNCLOSED_S and not still and not mover.may_form and possible(mover, _implied(mover, shown, residual)):
        return changed(onset, accused=mover.id), Flaw.JUMP
    return _factor(sheet, onset, shown, residual, tolerance_kw, now_s)


def crept(sheet: BalanceSheet, onset: Onset, shown: Mapping[str, float], now_s: float, obeying: Collection[str]) -> str | None:
    """Return the load whose meter has crept away: every source but one, the leader, shows what it was told or idles.

    The leader's own meter could be the one as well. Then, too, what the sources give is what is to be shared: its true power
    is off by the residual, which reserve covers as uncertain.
    """
    if now_s - onset.since_s < CREPT_S:
        return None
    unexplained = [f for f in sheet.flows if f.id not in obeying and abs(shown[f.id]) > IDLE * f.rated_kw]
    loads = [f for f in unexplained if f.sign < 0.0]
    sources = [f for f in unexplained if f.sign > 0.0]
    if len(loads) != 1 or len(sources) > 1 or not all(f.may_form for f in sources):
        return None
    load = loads[0]
    large = abs(onset.residual_kw) >= CREPT_SHARE * shown[load.id]
    return load.id if large and possible(load, _implied(load, shown, onset.residual_kw)) else None


def _implied(flow: Flow, shown: Mapping[str, float], residual_kw: float) -> float:
    return shown[flow.id] - flow.sign * residual_kw


def _unmoved(
    sheet: BalanceSheet, onset: Onset, shown: Mapping[str, float], pace: Mapping[str, Pace], told: Mapping[str, float], tolerance_kw: float
) -> Flow | None:
    """Return the one that shows what it did before the balance opened, and alone closes it if it gives what it was told.

    The meter stands still and the unit obeys: one that really stood still would have left the balance closed. What the
    others did then, the leader first, is their answer to the order and accuses none of them.
    """
    found = None
    for f in sheet.flows:
        order = told.get(f.id)
        if order is None or pace[f.id].since_s >= onset.since_s or not possible(f, order):
            continue
        missing = order - shown[f.id]
        if abs(missing) > 1.5 * tolerance_kw and abs(onset.residual_kw + f.sign * missing) <= 0.5 * tolerance_kw:
            if found is not None:
                return None
            found = f
    return found


def _mover(sheet: BalanceSheet, onset: Onset) -> Flow | None:
    """Return the one whose move opened the balance; None where the others moved as well, or it opened little by little."""
    if abs(onset.step_kw) < BLAMED * abs(onset.residual_kw) or len(onset.before) != len(sheet.flows):
        return None
    shares = sorted(((f.sign * (onset.after[f.id] - onset.before[f.id]) / onset.step_kw, f.id) for f in sheet.flows), reverse=True)
    first, second = shares[0][0], shares[1][0] if len(shares) > 1 else 0.0
    return sheet.flow(shares[0][1]) if first >= BLAMED and second <= 0.5 * first else None


def _typical(flow: Flow, shown_kw: float, residual_kw: float, tolerance_kw: float) -> Flaw | None:
    """Return the typical fault that leads from what the balance implies to what is shown."""
    implied = shown_kw - flow.sign * residual_kw
    size = abs(implied)
    if size <= tolerance_kw or not possible(flow, implied):
        return None
    if shown_kw == 0.0:
        return Flaw.ZEROED
    for flaw, back in ((Flaw.SIGN, -shown_kw), (Flaw.SCALED_UP, shown_kw / 10.0), (Flaw.SCALED_DOWN, shown_kw * 10.0)):
        if abs(back - implied) <= LIKE * size:
            return flaw
    return None


def _still(flow: Flow, pace: Pace, now_s: float) -> bool:
    if pace.pause_s is None or abs(pace.shown_kw) <= IDLE * flow.rated_kw:
        return False
    return now_s - pace.since_s >= max(STILL_S, STILL_PAUSES * pace.pause_s)


def _factor(sheet: BalanceSheet, onset: Onset, shown: Mapping[str, float], residual_kw: float, tolerance_kw: float, now_s: float) -> tuple[Onset, Flaw | None]:
    """Look for the only unit whose power closes the balance with a factor or sign taken back, or that fell to zero; watch it for a while."""
    found: dict[str, Flaw] = {}
    for f in sheet.flows:
        power, implied = shown[f.id], _implied(f, shown, residual_kw)
        if power == 0.0 and min(abs(implied), abs(onset.before.get(f.id, 0.0))) > 1.5 * tolerance_kw and possible(f, implied):
            found[f.id] = Flaw.ZEROED
        for flaw, back in ((Flaw.SIGN, -power), (Flaw.SCALED_UP, power / 10.0), (Flaw.SCALED_DOWN, power * 10.0)):
            closes = abs(residual_kw + f.sign * (back - power)) <= 0.5 * tolerance_kw
            if closes and abs(back - power) > 1.5 * tolerance_kw and possible(f, back):
                found[f.id] = flaw
    if len(found) != 1:
        return changed(onset, accused=None), None
    ((unit, flaw),) = found.items()
    if onset.accused != unit:
        return changed(onset, accused=unit, accused_s=now_s, accused_kw=shown[unit]), None
    # A constant residual may by chance be twice a constant power: what convicts is that it goes along with it.
    tested = flaw is Flaw.ZEROED or abs(shown[unit] - onset.accused_kw) > tolerance_kw
    return onset, flaw if tested and now_s - onset.accused_s >= FACTOR_S else None
