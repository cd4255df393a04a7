"""Who gets in: tokens that were forged, changed, ended or taken back do not."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import jwt
import pytest

from api.web.auth import API, RULES, Role, Throttle, Tokens, Users, begin_anew, beyond_loopback_ok, secret
from ems.clock import epoch_s
from ems.errors import BadInput
from tests.api.web.served import PASSWORD, PEOPLE, Site, site


async def test_a_right_password_gives_a_token_that_works_until_signed_out(at: Site):
    answer = await at("POST", "auth/token", {"username": "olga", "password": PASSWORD})
    body = answer.json()
    assert (answer.status_code, body["token_type"], body["expires_in"]) == (200, "bearer", 3600)
    head = {"Authorization": f"Bearer {body['access_token']}"}
    assert (await at("GET", "auth/me", **head)).json() == {"name": "olga", "role": "operator"}
    assert (await at("POST", "auth/logout", **head)).status_code == 200
    assert (await at("GET", "auth/me", **head)).status_code == 401
    again = Tokens(at.data, Users(at.data))  # a restart of the web process does not bring it back
    assert again.person(body["access_token"]) is None


async def test_a_token_is_renewed_in_exchange_for_the_old_one(at: Site):
    old = at.token("olga")
    answer = await at("POST", "auth/renew", Authorization=f"Bearer {old}")
    assert answer.status_code == 200
    assert at.desk.tokens.person(old) is None
    assert at.desk.tokens.person(answer.json()["access_token"]).name == "olga"


def test_renewing_ends_when_the_password_is_twelve_hours_old(at: Site):
    tokens, user = at.desk.tokens, at.desk.users.all()["olga"]
    person = tokens.person(tokens.issue(user, epoch_s() - 12 * 3600 + 60)[0])
    assert tokens.renew(person)[1] <= 60
    stale = jwt.encode(claims(user.name, user.key, auth_time=int(epoch_s()) - 13 * 3600), secret(at.data / "secret"), algorithm="HS256")
    assert tokens.renew(tokens.person(stale)) is None


@pytest.mark.parametrize("login", [{"username": "olga", "password": "wrong"}, {"username": "nobody", "password": PASSWORD}])
async def test_a_wrong_password_and_an_unknown_name_look_the_same(at: Site, login: dict[str, str]):
    answer = await at("POST", "auth/token", login)
    assert (answer.status_code, answer.json()["detail"]) == (401, "user name or password is wrong")
    assert at.desk.requests.audit()[-1]["kind"] == "security"
    assert PASSWORD not in json.dumps(at.desk.requests.audit())


def claims(name: str, key: str, **changed: object) -> dict[str, object]:
    now = int(epoch_s())
    return {"iss": "shima-ems", "sub": name, "key": key, "iat": now, "exp": now + 600, "auth_time": now, "jti": "j"} | changed


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_forged_tokens_are_refused(at: Site):
    user, key = at.desk.users.all()["emil"], secret(at.data / "secret")
    good = claims(user.name, user.key)
    whole = jwt.encode(good, key, algorithm="HS256")
    head, body, sign = whole.split(".")
    forged = {
        "alg none": f"{part({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        "alg none, signature kept": f"{part({'alg': 'none', 'typ': 'JWT'})}.{body}.{sign}",
        "other algorithm": jwt.encode(good, key, algorithm="HS384"),
        "other key": jwt.encode(good, "x" * 64, algorithm="HS256"),
        "body changed": f"{head}.{part({**good, 'sub': 'olga'})}.{sign}",
        "expired": jwt.encode({**good, "exp": int(epoch_s()) - 1}, key, algorithm="HS256"),
        "not yet": jwt.encode({**good, "iat": int(epoch_s()) + 900}, key, algorithm="HS256"),
        "without end": jwt.encode({k: v for k, v in good.items() if k != "exp"}, key, algorithm="HS256"),
        "other issuer": jwt.encode({**good, "iss": "elsewhere"}, key, algorithm="HS256"),
        "unknown user": jwt.encode({**good, "sub": "nobody"}, key, algorithm="HS256"),
        "key of an earlier user": jwt.encode({**good, "key": "0" * 16}, key, algorithm="HS256"),
        "unknown crit": jwt.encode(good, key, algorithm="HS256", headers={"crit": ["exp2"], "exp2": 1}),
        "empty": "",
        "text": "none",
    }
    assert (await at("GET", "auth/me", Authorization=f"Bearer {whole}")).status_code == 200
    for name, token in forged.items():
        answer = await at("POST", "stage", {"stage": "shadow", "reason": "x"}, Authorization=f"Bearer {token}")
        assert answer.status_code == 401, name
    assert (await at("POST", "stop", Authorization=f"Basic {whole}")).status_code == 401
    assert at.desk.requests.newest() == []


async def test_revoking_a_user_or_a_role_ends_their_tokens(at: Site):
    token = at.token("olga")
    Users(at.data).add("olga", Role.VIEWER, PASSWORD)  # from another process: `ems user add`
    assert (await at("POST", "stop", Authorization=f"Bearer {token}")).status_code == 401
    assert (await at("POST", "stop", who="olga")).status_code == 403
    token = at.token("otto")
    Users(at.data).revoke("otto")
    assert (await at("POST", "stop", Authorization=f"Bearer {token}")).status_code == 401


SAMPLE = {"{asset}": "pv1", "{id}": "dg2"}


def place(path: str) -> str:
    for name, value in SAMPLE.items():
        path = path.replace(name, value)
    return path.removeprefix("/")


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule[0] != "GET" and RULES[rule] is not None], ids=" ".join)
async def test_every_change_needs_a_token_and_its_role(at: Site, rule: tuple[str, str]):
    method, path = rule
    assert (await at(method, place(path))).status_code == 401
    needed = RULES[rule]
    assert needed is not None
    for name, role in PEOPLE.items():
        status = (await at(method, place(path), who=name)).status_code
        assert (status == 403) is (not role.covers(needed)), (name, status)


async def test_beyond_loopback_reads_need_a_token_too(tmp_path: Path):
    at = site(tmp_path, public=True)
    for path in ("state", "site", "history?points=load_kw", "stream", "/metrics"):
        assert (await at("GET", path)).status_code == 401, path
    assert (await at("GET", "state", who="viki", Host="island.example")).status_code == 200
    assert (await at("GET", "/metrics", who="viki")).status_code == 200
    for path in ("/healthz", "/readyz", "/", "/docs"):
        assert (await at("GET", path)).status_code == 200, path
    at.close()


def test_guessing_is_slowed_down_per_source():
    throttle, now = Throttle(), 1000.0
    for _ in range(5):
        assert throttle.wait_s("a", now) == 0.0
        throttle.wrong("a", now)
    assert [throttle.wait_s("a", now + s) for s in (0.0, 1.0, 2.0)] == [2.0, 1.0, 0.0]
    throttle.wrong("a", now + 2)
    assert throttle.wait_s("a", now + 2) == 4.0
    for _ in range(20):
        throttle.wrong("a", now + 2)
    assert throttle.wait_s("a", now + 2) == Throttle.LONGEST_S
    assert throttle.wait_s("b", now + 2) == 0.0
    throttle.right("a")
    assert throttle.wait_s("a", now + 2) == 0.0
    for k in range(2 * Throttle.SOURCES):
        throttle.wrong(f"s{k}", now)
    assert len(throttle._seen) == Throttle.SOURCES


async def test_a_throttled_source_is_told_to_wait_even_with_the_right_password(at: Site, monkeypatch):
    monkeypatch.setattr(at.desk.throttle, "wait_s", lambda source, now_s: 3.2)
    answer = await at("POST", "auth/token", {"username": "olga", "password": PASSWORD})
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["wait_s"]) == (429, "4", 4)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_readable_by_their_owner_alone(at: Site):
    at.desk.tokens.revoke(at.desk.tokens.person(at.token("viki")))
    assert [mode(at.data / name) for name in ("users.json", "secret", "revoked.json")] == [0o600] * 3
    assert PASSWORD not in (at.data / "users.json").read_text()
    assert secret(at.data / "secret") == secret(at.data / "secret")
    (at.data / "secret").chmod(0o640)
    with pytest.raises(BadInput, match="others may read"):
        secret(at.data / "secret")


@pytest.mark.parametrize(("name", "password"), [("", "long enough"), ("a b", "long enough"), ("../x", "long enough"), ("olga", "short")])
def test_bad_names_and_short_passwords_are_refused(tmp_path: Path, name: str, password: str):
    with pytest.raises(BadInput):
        Users(tmp_path).add(name, Role.VIEWER, password)
    assert not (tmp_path / "users.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": "soon"}', "null", "\udcff"], ids=["empty", "cut", "list", "no number", "null", "no text"])
def test_a_damaged_list_of_tokens_signed_out_is_put_aside_and_nobody_is_in_again(at: Site, text: str):
    out, other = at.token("olga"), at.token("viki")
    at.desk.tokens.revoke(at.desk.tokens.person(out))
    (at.data / "revoked.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    again = Tokens(at.data, Users(at.data))
    assert (again.person(out), again.person(other)) == (None, None)
    fresh = again.issue(at.desk.users.all()["olga"])[0]
    assert again.person(fresh).name == "olga"
    (kept,) = at.data.glob("revoked.json.damaged-*")
    assert kept.read_bytes() == text.encode("utf-8", "surrogateescape")
    assert mode(at.data / "secret") == 0o600
    later = Tokens(at.data, Users(at.data))
    assert (later.person(out), later.person(fresh).name) == (None, "olga")


def test_a_list_that_cannot_be_put_aside_keeps_its_tokens_out_all_the_same(at: Site):
    out = at.token("olga")
    at.desk.tokens.revoke(at.desk.tokens.person(out))
    (at.data / "revoked.json").write_text("")
    (at.data / "secret").rename(at.data / "kept")
    (at.data / "secret").mkdir()  # nothing can take its place
    key = begin_anew(at.data, ValueError("empty"))
    (at.data / "secret").rmdir()
    (at.data / "kept").rename(at.data / "secret")
    assert key != secret(at.data / "secret")
    assert (at.data / "revoked.json").exists(), "the next process finds it and takes another key, too"
    assert Tokens(at.data, Users(at.data)).person(out) is None


async def test_a_damaged_file_of_users_lets_nobody_in_and_says_so(at: Site):
    token = at.token("olga")
    (at.data / "users.json").write_text('{"users": {"olga": {"role": "king"}}}')
    assert (await at("POST", "stop", Authorization=f"Bearer {token}")).status_code == 503


def test_beyond_loopback_needs_users_and_tls(tmp_path: Path, at: Site):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "add a user" in str(beyond_loopback_ok(empty))
    assert "in the clear" in str(beyond_loopback_ok(at.data))
    (at.data / "tls").mkdir()
    for name in ("cert.pem", "key.pem"):
        (at.data / "tls" / name).touch()
    assert beyond_loopback_ok(at.data) is None


def test_the_table_names_only_routes_under_the_api():
    assert all(path.startswith("/") and not path.startswith(API) for _, path in RULES)
