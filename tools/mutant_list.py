"""The planted bugs of the mutation check: each a text that is in a file exactly once, and what stands there instead."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug.

    Attributes
    ----------
    name : str
    file : str
    old, new : str
        What is there, and the bug in its place.
    bug : str
        In words.
    """

    name: str
    file: str
    old: str
    new: str
    bug: str

    @property
    def tests(self) -> tuple[str, ...]:
        """The fast tests that look at it where the campaign has found nothing."""
        room, _, module = self.file.removesuffix(".py").partition("/")
        mirrored = f"tests/{room}/test_{module}.py"
        return (
            mirrored,
            *(f"tests/ems/test_{x}.py" for x in ("commitment", "setpoints", "controller", "references", "always")),
            "tests/stories/test_dynamic.py",
        )


IMAGE, GUARDS, RESERVE, SEQUENCER = "ems/image.py", "ems/guards.py", "ems/reserve.py", "ems/sequencer.py"
CONTROLLER, SETPOINTS, COMMITMENT, SEQUENCES = "ems/controller.py", "ems/setpoints.py", "ems/commitment.py", "ems/sequences.py"
KEEPER, ALARMS, SITUATION = "ems/plan_keeper.py", "ems/alarms.py", "ems/situation.py"

MUTANTS = (
    Mutant(
        "stale_as_zero",
        IMAGE,
        "or quality is BAD:\n                points[name] = None",
        "or quality is BAD:\n                points[name] = 0.0",
        "what cannot be used is read as zero",
    ),
    Mutant("never_stale", IMAGE, "old > stale_s or", "old > 1e12 or", "old values are used"),
    Mutant("not_finite_accepted", IMAGE, "value - value == 0.0 if span is None", "True if span is None", "numbers that are none get into the image"),
    Mutant("range_open", IMAGE, "else span[0] <= value <= span[1])", "else not (value < span[0] or value > span[1]))", "NaN is in any range"),
    Mutant("bad_quality_used", IMAGE, "or quality is BAD:", "or quality is None:", "a bad status is ignored"),
    Mutant("load_forgotten", IMAGE, "load = memory.load_kw if memory.load_kw is not None else 0.0", "load = 0.0", "an unseen load is taken as zero"),
    Mutant("no_read_back", IMAGE, "        if off > max(", "        if off > 1e9 + max(", "nobody looks whether a unit follows"),
    Mutant("wall_clock_timers", IMAGE, "now_s=telemetry.now_s,", "now_s=telemetry.time.timestamp(),", "timers run on the wall clock"),
    Mutant(
        "soc_floor_low",
        GUARDS,
        "floor = floor_soc(seat.battery, limits)",
        "floor = floor_soc(seat.battery, limits) - 0.02",
        "the lower SoC limit is two per cent too low",
    ),
    Mutant(
        "soc_top_high",
        GUARDS,
        "top = ceiling_soc(seat.battery, limits)",
        "top = ceiling_soc(seat.battery, limits) + 0.02",
        "the upper SoC limit is two per cent too high",
    ),
    Mutant("open_without_soc", GUARDS, "return None if known else (", "return None if True else (", "the guard opens where the charge is unknown"),
    Mutant("bms_ignored", GUARDS, '    ("bms", bms_limit, STORAGE),\n', "", "what the BMS allows is not asked"),
    Mutant("charge_sign", GUARDS, "ac_kw(unit, -charge_room_kw(", "ac_kw(unit, charge_room_kw(", "the room to charge has the wrong sign"),
    Mutant("no_minimum_loading", GUARDS, "Bound(unit.min_loading * unit.rated_kw,", "Bound(0.0 * unit.rated_kw,", "diesels have no minimum loading"),
    Mutant(
        "last_former_may_stop",
        GUARDS,
        "if not held or not stops or {w.asset for w in stops} != set(held):",
        "if True:",
        "the last unit that holds the bus may be stopped",
    ),
    Mutant("last_look_blind", GUARDS, 'return "not a finite number"', "return None", "the last look lets NaN pass"),
    Mutant("largest_unit_ignored", RESERVE, "if rule.largest_unit:", "if False:", "no reserve for the loss of the largest unit"),
    Mutant(
        "reserve_without_energy", RESERVE, "min(ceiling, energy_kw - inverter.no_load_kw) - power", "ceiling - power", "reserve in kW without the kWh behind it"
    ),
    Mutant("retries_unbounded", SEQUENCER, "if failed > diesel.retries:", "if failed > 10**9:", "a set that does not start is tried for ever"),
    Mutant("start_given_up", SEQUENCER, "> START_GRACE * diesel.start_s + SPARE_S", "> 0.5 * diesel.start_s", "a start is given up half-way"),
    Mutant("min_up_ignored", SEQUENCER, "now_s - memory.started_s < diesel.min_up_s", "now_s - memory.started_s < 0.0", "minimum up time is not kept"),
    Mutant(
        "trip_forgotten",
        SEQUENCER,
        "phase = Phase.LOCKED if image.fault or memory.locked or spent else Phase.OFF",
        "phase = Phase.ONLINE",
        "a set that tripped is still counted as on the bus",
    ),
    Mutant(
        "local_written",
        SEQUENCES,
        "if moved.writes and image.assets[d].remote:",
        "if moved.writes:",
        "a set in local is started and stopped",
    ),
    Mutant("shadow_writes", CONTROLLER, "writes=writes if stage is CONTROL else", "writes=writes if True else", "shadow writes"),
    Mutant("local_dispatched", SITUATION, "if image.assets[a].seen and image.assets[a].remote}", "if image.assets[a].seen}", "units in local get setpoints"),
    Mutant("pv_never_released", SETPOINTS, "+ self._solars[s].ramp_up_kw_per_s * image.dt_s)", "+ 0.0)", "a PV limit is never lifted again"),
    Mutant("reserve_starts_nobody", COMMITMENT, "if reserve.short_kw <= 0.1:", "if reserve.short_kw <= 1e9:", "short reserve starts no diesel"),
    Mutant(
        "stops_too_early",
        COMMITMENT,
        "coming = wanted - choice.online - choice.prompt\n",
        "coming = frozenset[str]()\n",
        "a set leaves before the one that takes its place is there",
    ),
    Mutant("plan_unchecked", KEEPER, "if faults:\n", "if False:\n", "every plan is believed, zeros too"),
    Mutant("plan_for_ever", KEEPER, "if self.plan is not None and at >= min(", "if self.plan is not None and False and at >= min(", "a plan never lapses"),
    Mutant(
        "any_answer_taken", KEEPER, "if request is None or request.id != outcome.request_id:", "if request is None:", "an answer to another question is taken"
    ),
    Mutant(
        "shed_order_reversed",
        "ems/feeders.py",
        "in sorted(powers, key=lambda f: (-self._places[f].feeder.priority,",
        "in sorted(powers, key=lambda f: (self._places[f].feeder.priority,",
        "the most important feeder is shed first",
    ),
    Mutant("silence_untold", ALARMS, "elif not unit.seen:", "elif False:", "a silent device brings no alarm"),
    Mutant("lock_untold", ALARMS, "if unit is not None and unit.barred:", "if unit is None:", "a lock-out brings no alarm"),
)
"""All of them; at least 19 of 20 have to be caught."""
