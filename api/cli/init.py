"""`ems init`: a first site file, with a comment at everything that has to be one's own."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Literal

import typer

from api.cli.output import document, example
from ems.errors import BadInput, Failed

Kind = Literal["small", "hydro", "large"]


def register(app: typer.Typer) -> None:
    """Add `ems init`."""
    app.command("init", epilog=example("ems init site.yaml", "ems init river.yaml --kind hydro"))(init)


def init(
    path: Path = typer.Argument(Path("site.yaml"), metavar="[PATH]", help="The file to write; one that is there is never touched."),
    kind: Kind = typer.Option(
        "small", "--kind", help="small: one diesel, PV, battery. hydro: a river and two diesels besides. large: three diesels, desalination, tank."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document: what was written."),
) -> None:
    """Write a first site file that `ems check` accepts, ready to be filled with your own figures."""
    text = starter(kind)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise BadInput("the file is there already and is left as it is", str(path), "a name that is free") from None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise BadInput("the folder is not there", str(path), "a file in a folder that exists") from None
    except OSError as error:
        raise Failed(f"the file cannot be written: {error.strerror}", str(path), "a folder that can be written") from error
    if as_json:
        document({"path": str(path), "kind": kind})
    else:
        sys.stdout.write(f"{path} is written. Put in your figures, then: ems check {path}\nTo try it without devices: ems simulate {path} --data data\n")


def starter(kind: str) -> str:
    """Return the text of a starter site."""
    return (resources.files("configs") / "starters" / f"{kind}.yaml").read_text("utf-8")
