"""README and docs: every command shown has the options it is shown with, and every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from api.cli.main import run
from tools.bootstrap import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(markdown: str) -> list[tuple[str, set[str]]]:
    """Return every `ems` command in the code of a page, with the options it is shown with."""
    fenced = re.findall(r"^```sh\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`(ems [^`\n]+)`", markdown)
    found = []
    for line in "\n".join([*fenced, *inline]).splitlines():
        words = shlex.split(line, comments=True)
        if len(words) > 1 and words[0] == "ems" and words[1].isalpha() and words[1].islower():
            below = [words[2]] if words[1] in ("user", "mrv") and len(words) > 2 else []
            found.append((" ".join([words[1], *below]), {w.split("=")[0] for w in words[2:] if w.startswith("--")}))
    return found


def test_commands_are_found_with_their_options():
    page = "```sh\nems check a.yaml --probe &\nems user add x --role y  # who\n```\nand `ems run S --data=D`, not `make demo` nor `ems COMMAND --help`"
    assert commands(page) == [("check", {"--probe"}), ("user add", {"--role"}), ("run", {"--data"})]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_has_the_options_it_is_shown_with(page: Path, capsys: pytest.CaptureFixture[str]):
    for command, options in commands(page.read_text("utf-8")):
        assert run([*command.split(), "--help"]) == 0, command
        known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
        assert options - known == set(), command


def test_the_readme_shows_what_there_is():
    shown = {command for command, _ in commands((ROOT / "README.md").read_text("utf-8"))}
    assert {"init", "check", "doctor", "replay", "simulate", "run", "scan", "user add", "export"} <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path):
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
