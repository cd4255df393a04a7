"""Our tables against the definitions that the SunSpec Alliance publishes, as pysunspec2 brings them: point by point."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest

from drivers.sunspec_models import HEAD, KINDS, MODELS, SIZES, Model, family, parsed

OURS = {
    "Wh": "Wh", "WH": "Wh", "V": "V", "W": "W", "var": "var", "Var": "var", "C": "degC", "A": "A", "Hz": "Hz", "Pct": "pct", "Secs": "s",
    None: None, "VA": None, "VAh": None, "varh": None, "Varh": None, "cos()": None, "Ah": None, "AH": None, "ohms": None, "S": None,
}  # fmt: skip
"""Their units in ours; None where the house has no such unit."""
WANTED = (1, 101, 102, 103, 120, 121, 122, 123, 124, 160, 201, 202, 203, 204, 701, 702, 703, 704, 713, 802)


def published(number: int) -> dict[str, Any]:
    text = resources.files("sunspec2").joinpath(f"models/json/model_{number}.json").read_text("utf-8")
    group: dict[str, Any] = json.loads(text)["group"]
    return group


def flat(group: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Give every point with the name that it has in our tables, and whether it is in a part that repeats."""
    for point in group["points"]:
        yield prefix + point["name"], point, False
    for below in group.get("groups", ()):
        repeats = below.get("count", 1) != 1
        for name, point, _ in flat(below, "" if repeats else f"{below['name']}_"):
            yield name, point, repeats


def unit_of(point: dict[str, Any]) -> str | None:
    unit = point.get("units")
    return "pct" if unit and unit.strip().startswith("%") else OURS[unit]


@pytest.mark.parametrize("number", WANTED)
def test_a_model_is_the_published_one(number: int) -> None:
    model, offset = MODELS[number], 0
    theirs: dict[str, tuple[object, ...]] = {}
    for name, point, repeats in flat(published(number)):
        theirs[f"{name}_1" if repeats else name] = (offset, point["type"], point["size"], unit_of(point), None if "sf" not in point else str(point["sf"]))
        offset += point["size"]
    assert theirs.pop("ID")[0] == 0
    assert theirs.pop("L")[0] == 1
    ours = {name: (r.offset, r.kind, r.size, r.unit, r.scale) for name in model.names() if (r := model.point(name)) is not None}
    assert ours == theirs
    assert model.length + model.repeat == offset - HEAD


def test_every_model_that_is_known_was_compared() -> None:
    assert set(MODELS) == set(WANTED)


@pytest.mark.parametrize("number", WANTED)
def test_points_do_not_overlap_and_scales_exist(number: int) -> None:
    model = MODELS[number]
    taken = sorted((r.offset, r.offset + r.size) for r in model.points.values())
    assert all(end <= start for (_, end), (start, _) in zip(taken, taken[1:], strict=False))
    assert (taken[0][0], taken[-1][1]) == (HEAD, HEAD + model.length)
    for register in (*model.points.values(), *model.repeated.values()):
        assert register.scale is None or model.points[register.scale].kind == "sunssf"
        assert register.kind == "string" or SIZES[KINDS[register.kind]] == register.size


def test_a_part_that_repeats_is_counted_from_one() -> None:
    mppt = MODELS[160]
    assert (mppt.length, mppt.repeat) == (8, 20)
    # behind id, length and eight words comes the first module: ID, eight words of text, DCA, DCV, DCW
    assert [mppt.point(f"DCW_{k}").offset for k in (1, 2, 3)] == [10 + 11, 10 + 31, 10 + 51]
    assert [mppt.point(name) for name in ("DCW", "DCW_0", "DCW_x", "W_1")] == [None] * 4
    assert [mppt.fits(length) for length in (8, 28, 48, 47, 7)] == [True, True, True, False, False]


def test_lengths_that_a_device_may_say() -> None:
    assert (MODELS[1].fits(66), MODELS[1].fits(65), MODELS[1].fits(64)) == (True, True, False)  # the pad came later
    assert (MODELS[103].fits(50), MODELS[103].fits(49), MODELS[103].fits(52)) == (True, False, False)
    assert family(102) == (101, 102, 103)
    assert family(713) == (713,)


@pytest.mark.parametrize("line", ["W int17", "W int16 W_SF furlong"])
def test_a_broken_table_is_told_by_its_line(line: str) -> None:
    with pytest.raises(ValueError, match=r"sunspec_models\.txt:2"):
        parsed(["model 9: broken", line])
    assert parsed(["model 8 9: one", "A uint16"])[9] == Model("one", 1, parsed(["model 8: x", "A uint16"])[8].points)
