"""The console script `ems`: finds the command, and turns every error into one line and an exit code.

Exit 0 done, 1 failed or differs, 2 bad input. Commands import what is heavy when they run, so that help is quick.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

import typer

from api.cli.output import failure
from ems.errors import EmsError

COMMANDS = ("demo", "run", "check", "scan", "replay", "simulate", "campaign", "export", "user", "init", "doctor", "later")
"""Modules of this package with `register(app)`, in the order of the help; `later` fills in what the others leave out."""


def build() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="ems",
        help="Energy management of an island microgrid. `ems COMMAND --help` shows an example of each command.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 160},
    )
    app.callback()(top)
    for name in COMMANDS:
        import_module(f"api.cli.{name}").register(app)
    return app


def tell_version(wanted: bool) -> None:
    """Print the version and end, where it is asked for."""
    if wanted:
        sys.stdout.write(f"ems {version('shima-ems')}\n")
        raise typer.Exit


def top(show_version: bool = typer.Option(False, "--version", is_eager=True, callback=tell_version, help="Show the version.")) -> None:
    """Take what is said before the command."""


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    as_json = "--json" in arguments
    try:
        result: Any = build()(args=list(arguments), prog_name="ems", standalone_mode=False)
    except EmsError as error:
        failure(error.document(), as_json)
        return error.exit_code
    except typer.Abort:
        failure({"error": "stopped by the user", "where": "", "expected": ""}, as_json)
        return 1
    except typer.TyperException as error:
        return _misused(error, as_json)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `ems check site.yaml | head`: nobody is listening any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


def _misused(error: typer.TyperException, as_json: bool) -> int:
    """Tell a wrong or missing command, option or value; without any arguments the message is the help itself."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "ems"
    text, expected = error.format_message().replace("Value error, ", ""), f"see `{command} --help`"
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(text + "\n")
        text = "no command given"
    if (choice := re.fullmatch(r"(.*) is not one of (.*?)\.?", text)) is not None:
        text, expected = f"{choice[1]} is unknown", choice[2].replace("'", "")
    failure({"error": text, "where": command, "expected": expected}, as_json)
    return 2


def main() -> None:
    """Entry point of the console script."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # a clean stop; commands that serve put their own in its place
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
