"""`ems user`: who may sign in to a site."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from api.cli.output import document, example
from ems.errors import BadInput

if TYPE_CHECKING:
    from api.web.auth import Users

DATA = typer.Option(..., "--data", metavar="DIR", help="The site's data folder; made where it is missing.")


def register(app: typer.Typer) -> None:
    """Add `ems user`."""
    user = typer.Typer(name="user", help="Add, list and revoke the users of a site.", no_args_is_help=True)
    user.command("add", epilog=example("EMS_PASSWORD=... ems user add keeper --role operator --data site"))(add)
    user.command("list", epilog=example("ems user list --data site"))(list_users)
    user.command("revoke", epilog=example("ems user revoke keeper --data site"))(revoke)
    app.add_typer(user, name="user", epilog=example("EMS_PASSWORD=... ems user add keeper --role operator --data site", "ems user list --data site"))


def add(
    name: str = typer.Argument(..., metavar="NAME", help="The user's name."),
    role: Literal["viewer", "operator", "engineer", "admin"] = typer.Option("viewer", "--role", help="Each role may do what those before it may."),
    data: Path = DATA,
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Add a user, or give a known one a new role and password, taken from EMS_PASSWORD or asked for."""
    from api.web.auth import Role

    new = users(data).add(name, Role(role), password())
    tell({"name": name, "role": role, "new": new}, f"{name} {'added' if new else 'changed'}: {role}", as_json)


def list_users(data: Path = DATA, as_json: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> None:
    """List users and roles."""
    found = sorted(users(there(data)).all().values(), key=lambda u: u.name)
    text = "\n".join(f"{u.name}  {u.role}" for u in found) or "no users"
    tell([{"name": u.name, "role": u.role.value} for u in found], text, as_json)


def revoke(
    name: str = typer.Argument(..., metavar="NAME", help="The user's name."),
    data: Path = DATA,
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Take a user out; their tokens end at once."""
    users(there(data)).revoke(name)
    tell({"name": name, "revoked": True}, f"{name} revoked", as_json)


def users(data: Path) -> Users:
    """Return the users of a data folder, which is made where it is missing."""
    from api.web.auth import Users

    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"the data folder cannot be made: {error.strerror}", str(data), "a folder that can be written") from error
    return Users(data)


def there(data: Path) -> Path:
    """Refuse a data folder that is not there: a typing error must not look like a site without users."""
    if not data.is_dir():
        raise BadInput(f"there is no folder {str(data)!r}", "--data", "the data folder of a site, as in `ems run --data DIR`")
    return data


def password() -> str:
    """Return the password from the environment, or ask for it twice on a terminal."""
    given = os.environ.get("EMS_PASSWORD")
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise BadInput("no password was given", "EMS_PASSWORD", "the password in this environment variable, or a terminal to ask on")
    asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return asked


def tell(content: object, text: str, as_json: bool) -> None:
    """Print the result, as text or as the one document."""
    if as_json:
        document(content)
    else:
        sys.stdout.write(text + "\n")
