"""Commands of the contract that this version does not have yet: shown in the help, and refused in one line."""

from __future__ import annotations

from collections.abc import Callable

import typer

from api.cli.output import example
from ems.errors import Failed

LATER = (
    ("demo", "Simulated plant, controller and web page in one go.", "ems demo --for 60s"),
    ("run", "The edge service of a site.", "ems run site.yaml --stage shadow --data data"),
    ("simulate", "The plant alone, on real Modbus TCP and OPC UA.", "ems simulate site.yaml --listen 127.0.0.1:1502"),
    ("scan", "What is at an address, and a draft profile for it.", "ems scan tcp://10.0.0.11:502 --unit 1"),
    ("replay", "Policies against a recorded year.", "ems replay site.yaml --series year.csv --policy mpc,load-following"),
    ("campaign", "Seeded faults, with every rule checked in every step.", "ems campaign site.yaml --seeds 20 --hours 24"),
    ("sweep", "A study over sizes and policies.", "ems sweep study.yaml --workers 2 --out results"),
    ("mrv report", "The emission reductions of a period.", "ems mrv report data --from 2026-01-01 --to 2026-12-31 --lang ja --format xlsx --out 2026.xlsx"),
    ("mrv verify", "Recompute a ledger and its report.", "ems mrv verify data --json"),
    ("user add", "Add a user; the password comes from EMS_PASSWORD or is asked for.", "ems user add hanako --role operator --data data"),
    ("user list", "Show the users.", "ems user list --data data"),
    ("user revoke", "Take a user's access away.", "ems user revoke hanako --data data"),
    ("export", "History as a table.", "ems export data --format csv --out history.csv"),
    ("monitor", "Many sites on one page.", "ems monitor fleet.yaml"),
    ("init", "Ask a few questions and write a first site file.", "ems init"),
    ("doctor", "Look for what keeps this machine from running the service.", "ems doctor"),
)
GROUPS = {"mrv": "Measurement, reporting and verification.", "user": "Users and their roles."}


def register(app: typer.Typer) -> None:
    """Add every command of the contract that no other module has registered."""
    have = {_name(c.name, c.callback) for c in app.registered_commands}
    groups = {g.name: g.typer_instance for g in app.registered_groups if g.typer_instance is not None}
    own: dict[str, typer.Typer] = {}
    for command, what, shown in LATER:
        group, _, name = command.rpartition(" ")
        if not group and name not in have:
            _add(app, name, command, what, shown)
        elif group and group not in groups:
            if group not in own:
                own[group] = typer.Typer(help=GROUPS[group], no_args_is_help=True, rich_markup_mode=None)
                app.add_typer(own[group], name=group)
            _add(own[group], name, command, what, shown)


def _name(name: str | None, callback: Callable[..., object] | None) -> str:
    return name or (callback.__name__.strip("_").replace("_", "-") if callback is not None else "")


def _add(app: typer.Typer, name: str, command: str, what: str, shown: str) -> None:
    def refuse(context: typer.Context) -> None:
        raise Failed(f"`ems {command}` is not in this version", expected="another command of `ems --help`")

    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name, help=f"{what} Not in this version yet.", epilog=example(shown), context_settings=settings)(refuse)
