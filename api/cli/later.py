"""Commands of the contract that this version does not have yet: shown in the help, and refused in one line."""

from __future__ import annotations

import typer

from api.cli.output import example
from ems.errors import Failed

LATER = (
    ("sweep", "A study over sizes and policies.", "ems sweep study.yaml --workers 2 --out results"),
    ("mrv report", "The emission reductions of a period.", "ems mrv report data --from 2026-01-01 --to 2026-12-31 --lang ja --format xlsx --out 2026.xlsx"),
    ("mrv verify", "Recompute a ledger and its report.", "ems mrv verify data --json"),
    ("monitor", "Many sites on one page.", "ems monitor fleet.yaml"),
)
GROUPS = {"mrv": "Measurement, reporting and verification."}
NOT_YET = "(not yet) "


def register(app: typer.Typer) -> None:
    """Add the commands of the contract that no other module has."""
    groups: dict[str, typer.Typer] = {}
    for command, what, shown in LATER:
        group, _, name = command.rpartition(" ")
        if group and group not in groups:
            groups[group] = typer.Typer(help=NOT_YET + GROUPS[group], no_args_is_help=True, rich_markup_mode=None)
            app.add_typer(groups[group], name=group)
        _add(groups.get(group, app), name, command, what, shown)


def _add(app: typer.Typer, name: str, command: str, what: str, shown: str) -> None:
    def refuse(context: typer.Context) -> None:
        raise Failed(f"`ems {command}` is not in this version", expected="another command of `ems --help`")

    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name, help=NOT_YET + what, epilog=example(shown), context_settings=settings)(refuse)
