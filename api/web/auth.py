"""Who may do what: users with a role, short-lived tokens, one table of routes.

Passwords are kept as Argon2 hashes in `DIR/users.json`, the key that signs tokens in `DIR/secret`, the
tokens signed out in `DIR/revoked.json`; all 0600. A token names the user, not the role: taking a role
away, or revoking the user, ends what was handed out before.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Any

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ems.clock import epoch_s
from ems.errors import BadInput, StoreError

LOG = logging.getLogger("web")
ALGORITHM = "HS256"
ISSUER = "shima-ems"
TOKEN_S = 3600
SESSION_S = 12 * 3600
"""A token may be renewed until the password was given this long ago [s]."""
PASSWORD_LENGTH = 8
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)  # 19 MiB: many sites have a small gateway
NOBODY = HASHER.hash(secrets.token_hex(16))
"""Checked against for unknown names, so that they take as long as known ones."""


class Role(StrEnum):
    """Each may do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ENGINEER = "engineer"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what asks for `needed`."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


API = "/api/v1"
READS = (
    *("/site", "/state", "/mode", "/stage", "/plan", "/forecast", "/explain", "/advice", "/history", "/events", "/alarms", "/mrv/summary", "/stream"),
    *("/limits", "/limits/{asset}", "/commands", "/commands/{id}", "/auth/me"),
)
RULES: Mapping[tuple[str, str], Role | None] = {
    ("POST", "/auth/token"): None,
    ("POST", "/auth/renew"): Role.VIEWER,
    ("POST", "/auth/logout"): Role.VIEWER,
    **{("GET", path): Role.VIEWER for path in READS},
    ("PATCH", "/limits/{asset}"): Role.OPERATOR,
    ("POST", "/assets/{id}/command"): Role.OPERATOR,
    ("POST", "/assets/{id}/mode"): Role.OPERATOR,
    ("POST", "/mode"): Role.OPERATOR,
    ("POST", "/forecast"): Role.OPERATOR,
    ("POST", "/stop"): Role.OPERATOR,
    ("POST", "/alarms/{id}/ack"): Role.OPERATOR,
    ("POST", "/advice/{id}/accept"): Role.OPERATOR,
    ("POST", "/stage"): Role.ENGINEER,
}
"""Who may use which route under `API`; None: anyone. A route that is not here is refused to all."""
OPEN_ON_LOOPBACK = frozenset(rule for rule in RULES if rule[0] == "GET")
"""What needs no token while only this machine can ask."""


@dataclass(frozen=True, slots=True)
class User:
    """A person with a role; `key` changes whenever the user is added anew, and tokens hold it."""

    name: str
    role: Role
    hash: str
    key: str


@dataclass(frozen=True, slots=True)
class Person:
    """Who stands at the door, by a valid token."""

    name: str
    role: Role
    token_id: str
    ends_s: float
    since_s: float


class Users:
    """The file of users; read again whenever it has changed."""

    def __init__(self, data: Path) -> None:
        self.path = data / "users.json"
        self._stamp: tuple[int, int, int] | None = None
        self._users: dict[str, User] = {}

    def all(self) -> dict[str, User]:
        """Return all users by name."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._stamp, self._users = None, {}
            return {}
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if stamp != self._stamp:
            try:
                rows = json.loads(self.path.read_text("utf-8"))["users"]
                self._users = {name: User(name, Role(row["role"]), row["hash"], row["key"]) for name, row in rows.items()}
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError("the file of users cannot be understood", str(self.path), "what `ems user add` wrote") from error
            self._stamp = stamp
        return self._users

    def add(self, name: str, role: Role, password: str) -> bool:
        """Add a user, or give a known one a new role and password; return whether it is new."""
        if NAME.fullmatch(name) is None:
            raise BadInput(f"{name!r} is no user name", "NAME", "1 to 64 letters, digits, . _ @ or -, a letter or digit first")
        if len(password) < PASSWORD_LENGTH:
            raise BadInput("the password is too short", "EMS_PASSWORD", f"at least {PASSWORD_LENGTH} characters")
        users = dict(self.all())
        new = name not in users
        users[name] = User(name, role, HASHER.hash(password), secrets.token_hex(8))
        self._save(users)
        return new

    def revoke(self, name: str) -> None:
        """Take a user out; tokens handed to them end at once."""
        users = dict(self.all())
        if users.pop(name, None) is None:
            raise BadInput(f"there is no user {name!r}", "NAME", "one of: " + (", ".join(users) or "(none)"))
        self._save(users)

    def check(self, name: str, password: str) -> User | None:
        """Return the user if the password is right; it takes as long for unknown names (0.1 s of CPU)."""
        user = self.all().get(name)
        try:
            HASHER.verify(NOBODY if user is None else user.hash, password)
        except (VerificationError, InvalidHashError):
            return None
        return user

    def _save(self, users: Mapping[str, User]) -> None:
        rows = {u.name: {"role": u.role.value, "hash": u.hash, "key": u.key} for u in users.values()}
        write_private(self.path, json.dumps({"version": 1, "users": rows}, indent=1))
        self._stamp = None


class Tokens:
    """Signs and reads tokens; remembers those signed out until they would have ended."""

    def __init__(self, data: Path, users: Users) -> None:
        self._users = users
        self._lock = Lock()
        self._revoked_path = data / "revoked.json"
        self._secret = secret(data / "secret")
        self._revoked: dict[str, float] = {}
        try:
            self._revoked = revoked(self._revoked_path)
        except (OSError, ValueError) as error:
            self._secret = begin_anew(data, error)

    def issue(self, user: User, since_s: float | None = None) -> tuple[str, int]:
        """Return a token and how long it lasts [s]; `since_s` is when the password was given [epoch s]."""
        now = int(epoch_s())
        since = now if since_s is None else int(since_s)
        ends = min(now + TOKEN_S, since + SESSION_S)
        claims = {"iss": ISSUER, "sub": user.name, "key": user.key, "iat": now, "exp": ends, "auth_time": since, "jti": secrets.token_hex(12)}
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM), ends - now

    def person(self, token: str) -> Person | None:
        """Return whose token this is, or None where it is not ours, has ended, or was taken back."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self._secret, algorithms=[ALGORITHM], issuer=ISSUER, options={"require": ["exp", "iat", "sub", "jti", "key", "auth_time"]}
            )
        except jwt.InvalidTokenError:
            return None
        user = self._users.all().get(str(claims["sub"]))
        if user is None or user.key != claims["key"] or claims["jti"] in self._revoked:
            return None
        return Person(user.name, user.role, str(claims["jti"]), float(claims["exp"]), float(claims["auth_time"]))

    def renew(self, person: Person) -> tuple[str, int] | None:
        """Return a fresh token in place of a valid one, or None where the password must be given again."""
        user = self._users.all().get(person.name)
        if user is None or epoch_s() >= person.since_s + SESSION_S:
            return None
        with suppress(OSError):  # where it cannot be stored the old token ends by itself, and nobody is signed out by a full disk
            self.revoke(person)
        return self.issue(user, person.since_s)

    def revoke(self, person: Person) -> None:
        """Sign a token out, for good; where that cannot be stored it is an `OSError`, and the token stays valid."""
        with self._lock:
            now = epoch_s()
            revoked = {jti: ends for jti, ends in self._revoked.items() if ends > now} | {person.token_id: person.ends_s}
            write_private(self._revoked_path, json.dumps(revoked))
            self._revoked = revoked


class Throttle:
    """After `FREE` wrong passwords from one source it must wait, longer each time."""

    FREE = 5
    LONGEST_S = 60.0
    FORGET_S = 900.0
    SOURCES = 1000

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def wait_s(self, source: str, now_s: float) -> float:
        """Return how long this source must wait yet [s]."""
        count, last_s = self._seen.get(source, (0, 0.0))
        if count < self.FREE or now_s - last_s > self.FORGET_S:
            return 0.0
        return max(0.0, last_s + min(self.LONGEST_S, 2.0 ** (count - self.FREE + 1)) - now_s)

    def wrong(self, source: str, now_s: float) -> None:
        """Note a wrong password."""
        count, last_s = self._seen.pop(source, (0, now_s))
        self._seen[source] = (1 if now_s - last_s > self.FORGET_S else count + 1, now_s)
        if len(self._seen) > self.SOURCES:
            del self._seen[next(iter(self._seen))]

    def right(self, source: str) -> None:
        """Forget a source that has proven itself."""
        self._seen.pop(source, None)


def revoked(path: Path) -> dict[str, float]:
    """Return the tokens that were signed out, each with its end [epoch s]; a `ValueError` where the file cannot be understood."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text("utf-8"))
    if not isinstance(found, dict) or not all(isinstance(ends, int | float) for ends in found.values()):
        raise ValueError("not a list of tokens with their ends")
    return found


def begin_anew(data: Path, error: Exception) -> str:
    """Return a new signing key in place of the old one, and put a damaged list of tokens signed out aside.

    Nobody knows any more who was signed out, so that everybody is: else a token that was taken back would hold again.
    The key comes first, and without a file (a full disk) it holds for this process: the next one finds the list as it was.
    """
    LOG.error("revoked.json cannot be used (%s): it is put aside, and everybody has to sign in again", error)
    key = secrets.token_hex(32)
    try:
        write_private(data / "secret", key)
        (data / "revoked.json").rename(data / f"revoked.json.damaged-{int(epoch_s() * 1000)}")
    except OSError as fault:
        LOG.error("no new key could be stored, the one of this process holds until it ends: %s", fault)
    return key


def secret(path: Path) -> str:
    """Return the signing key of this site; made once and whole, readable by its owner alone."""
    if not path.exists():
        write_private(path, secrets.token_hex(32))
    if path.stat().st_mode & 0o077:
        raise BadInput("others may read the key that signs tokens", str(path), "a file with mode 0600")
    key = path.read_text("ascii").strip()
    if len(key) < 64:
        raise BadInput("the key that signs tokens is too short", str(path), "64 hexadecimal digits; delete the file for a new one")
    return key


def write_private(path: Path, text: str) -> None:
    """Replace a file at once, readable by its owner alone, durable before this returns."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def tls_files(data: Path) -> tuple[Path, Path] | None:
    """Return certificate and key of this site, `DIR/tls/cert.pem` and `DIR/tls/key.pem`, or None where one is missing."""
    found = data / "tls" / "cert.pem", data / "tls" / "key.pem"
    return found if all(path.is_file() for path in found) else None


def beyond_loopback_ok(data: Path) -> str | None:
    """Return why this site may not be reached from other machines, or None where it may."""
    if not Users(data).all():
        return f"nobody could sign in: add a user first (ems user add NAME --role operator --data {data})"
    if tls_files(data) is None:
        return f"passwords would travel in the clear: put cert.pem and key.pem into {data}/tls, or stay on 127.0.0.1 behind a proxy with TLS"
    return None
