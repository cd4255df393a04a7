"""Every word of the page is there in both languages, and every word that the program can say has one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ems.explain import GUARDS, ORDER_WAITS
from ems.model import Quality, Status
from ems.terms import Mode, Phase, Reason, Stage

WEB = Path(__file__).parents[3] / "api" / "web"
WORDS = {lang: json.loads((WEB / "hmi" / f"{lang}.json").read_text("utf-8")) for lang in ("en", "ja")}
PAGE = "\n".join(p.read_text("utf-8") for p in sorted((WEB / "hmi").glob("*.js"))) + (WEB / "hmi" / "index.html").read_text("utf-8")
CODE = "\n".join(p.read_text("utf-8") for p in sorted(WEB.rglob("*.py")))


def test_both_languages_have_the_same_keys_and_blanks():
    assert set(WORDS["en"]) == set(WORDS["ja"])
    for key, text in WORDS["en"].items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", WORDS["ja"][key])), key
        assert text.strip("\n"), key


@pytest.mark.parametrize(
    ("group", "values"),
    [("mode", Mode), ("stage", Stage), ("phase", Phase), ("quality", Quality), ("reason", Reason), ("status", Status), ("limit", (*GUARDS, *ORDER_WAITS))],
)
def test_every_value_the_kernel_can_say_has_a_word(group: str, values: object):
    assert {f"{group}.{value}" for value in values} <= set(WORDS["en"])


def test_every_key_the_page_asks_for_exists():
    asked = set(re.findall(r'\bt\("([\w.]+)"', PAGE)) | set(re.findall(r'data-t="([\w.]+)"', PAGE)) | set(re.findall(r'\btile\("([\w.]+)"', PAGE))
    assert len(asked) > 60
    assert asked <= set(WORDS["en"])


def test_every_problem_code_has_a_word():
    codes = set(re.findall(r'(?:Problem|answer)\(\s*\d{3}, "(\w+)"', CODE))
    assert {"late", "busy_asset", "changed_meanwhile", "wrong_host"} <= codes
    assert {f"err.{code}" for code in codes} <= set(WORDS["en"])
