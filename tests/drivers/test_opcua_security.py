"""Whom the OPC UA driver talks to and over what: files, pinned and signed certificates, and a server that gets no password."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from asyncua import Server, ua
from asyncua.server.user_managers import User, UserRole
from cryptography.hazmat.primitives.serialization import Encoding

from drivers.opcua import OpcUaDriver
from drivers.opcua_security import first_of_chain, refuse_stranger, told_offer
from ems.config.load import load_site
from ems.config.profile import Profile
from ems.config.site import Device
from ems.errors import BadAnswer, BadInput, ConnectionLost
from tests.wire.certificates import Pair, made, written

PROFILE = Profile.model_validate({"profile": "p", "kind": "meter", "protocol": "opcua", "points": {"x": {"node": "ns=2;s=x", "type": "Double"}}})
AUTHORITY = made("authority", authority=True)
OTHER = made("other", authority=True)
PLANT = made("plant")


def trust(folder: Path, *pairs: Pair) -> Path:
    folder.mkdir()
    for n, (certificate, _) in enumerate(pairs):
        (folder / f"{n}.der").write_bytes(certificate.public_bytes(Encoding.DER))
    return folder


# ------------------------------------------------------------------ trust
@pytest.mark.parametrize(
    ("theirs", "trusted", "says"),
    [
        (PLANT, [PLANT], None),
        (PLANT, [OTHER, PLANT], None),
        (made("plant", days=(-30, -1)), None, None),  # pinned: it has run out, and the island goes on
        (made("plant"), [PLANT], "not trusted"),
        (PLANT, [AUTHORITY], "not trusted"),
        (made("plant", issuer=AUTHORITY), [AUTHORITY], None),
        (made("plant", issuer=OTHER), [AUTHORITY], "not trusted"),
        (made("plant", hosts=("10.0.0.7",), issuer=AUTHORITY), [AUTHORITY], "another host"),
        (made("plant", issuer=AUTHORITY, days=(-30, -1)), [AUTHORITY], "run out"),
        (made("plant", issuer=PLANT), [PLANT], "not trusted"),  # a pinned server is no authority
    ],
    ids=[
        "pinned",
        "one of two",
        "pinned, run out",
        "same name",
        "not signed",
        "signed",
        "signed by another",
        "for another host",
        "signed, run out",
        "no authority",
    ],
)
def test_a_server_is_pinned_or_signed_for_its_host(theirs: Pair, trusted: list[Pair] | None, says: str | None):
    known = [pair[0] for pair in (trusted or [theirs])]
    if says is None:
        refuse_stranger(theirs[0], known, "127.0.0.1", "here")
        return
    with pytest.raises(BadAnswer, match=says):
        refuse_stranger(theirs[0], known, "127.0.0.1", "here")


def test_of_a_chain_the_first_certificate_counts():
    leaf, issuer = (pair[0].public_bytes(Encoding.DER) for pair in (made("plant", issuer=AUTHORITY), AUTHORITY))
    assert first_of_chain(leaf + issuer) == leaf
    assert first_of_chain(leaf) == leaf


def test_what_is_offered_is_told_with_what_is_broken():
    policies = [("None", "None_"), ("Basic128Rsa15", "Sign"), ("Basic256Sha256", "SignAndEncrypt")]
    offers = [ua.EndpointDescription(SecurityPolicyUri=f"http://x#{policy}", SecurityMode=getattr(ua.MessageSecurityMode, mode)) for policy, mode in policies]
    assert told_offer(offers) == "None None, Basic128Rsa15 Sign (broken, deprecated), Basic256Sha256 SignAndEncrypt"
    assert told_offer([]) == "nothing"


# ------------------------------------------------------------------ files and the site file
def test_files_that_cannot_be_used_are_refused_before_anything_is_opened(tmp_path: Path):
    certificate, key = written(tmp_path / "ems", made("ems"))
    nameless = tmp_path / "nameless.pem"
    nameless.write_text("no certificate", "utf-8")
    good = {"certificate": str(certificate), "private_key": str(key), "trust": str(trust(tmp_path / "trust", PLANT))}
    (tmp_path / "empty").mkdir()
    for field, value, says in (
        ("certificate", str(tmp_path / "nowhere"), "no file"),
        ("certificate", str(nameless), "is no certificate"),
        ("private_key", str(tmp_path / "nowhere"), "no file"),
        ("trust", str(tmp_path / "nowhere"), "no folder"),
        ("trust", str(tmp_path / "empty"), "no certificate in"),
    ):
        device = Device.model_validate({"profile": "x", "url": "opc.tcp://127.0.0.1:4840", "security": {**good, field: value}})
        with pytest.raises(BadInput, match=says) as caught:
            OpcUaDriver("m1", PROFILE, device, 1.0, {})
        assert caught.value.where.endswith(f"security.{field}")
        assert caught.value.expected


SITE = """\
site: {id: isle}
assets:
  - {id: town, kind: load, peak_kw: 400}
  - {id: dg1, kind: diesel, rated_kw: 400}
  - {id: hydro1, kind: hydro, rated_kw: 100, device: {profile: generic-hydro, url: "opc.tcp://10.0.0.9:4840", security: SECURITY}}
"""


@pytest.mark.parametrize(
    ("security", "field", "says"),
    [
        ("{policy: Basic128Rsa15}", ".policy", "deprecated"),
        ("{policy: Basic256, certificate: a, private_key: b, trust: c}", ".policy", "deprecated"),
        ("{policy: Rot13}", ".policy", "."),
        ("{private_key: b, trust: c}", ".certificate", "no certificate"),
        ("{certificate: a, private_key: b}", ".trust", "no trust"),
        ("{certificate: a, private_key: b, trust: c, mode: None}", ".mode", "."),
        ('{certificate: a, private_key: b, trust: c, mode: "None"}', ".mode", "without a signature"),
        ("{certificate: a, private_key: b, trust: c, credentials: 9x}", ".credentials", "."),
    ],
)
def test_a_security_that_is_none_is_refused_with_its_line(tmp_path: Path, security: str, field: str, says: str):
    path = tmp_path / "site.yaml"
    path.write_text(SITE.replace("SECURITY", security), "utf-8")
    with pytest.raises(BadInput, match=says) as caught:
        load_site(path)
    assert caught.value.where == f"{path}:5 assets[2].device.security{field}"


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes256_Sha256_RsaPss", "Aes256Sha256RsaPss", "Aes128_Sha256_RsaOaep"])
def test_sound_policies_by_their_official_names(tmp_path: Path, policy: str):
    path = tmp_path / "site.yaml"
    path.write_text(SITE.replace("SECURITY", f"{{policy: {policy}, certificate: a, private_key: b, trust: c, credentials: plc1}}"), "utf-8")
    assert load_site(path).site.asset("hydro1").device.security.policy == policy


# ------------------------------------------------------------------ on the wire
async def test_only_a_trusted_server_gets_user_and_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = written(tmp_path / "plant", PLANT)
    own, own_key = written(tmp_path / "ems", made("ems"))
    users: list[tuple[str | None, str | None]] = []

    class Users:
        def get_user(self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None) -> User:
            users.append((username, password))
            return User(role=UserRole.User)

    server = Server(user_manager=Users())
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    await server.register_namespace("urn:test")
    await server.nodes.objects.add_variable(ua.NodeId.from_string("ns=2;s=x"), "x", 120.5)
    await server.set_application_uri("urn:test:plant")
    server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_Sign, ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt])
    await server.load_certificate(certificate)
    await server.load_private_key(key)
    await server.start()
    assert server.bserver is not None
    url = f"opc.tcp://127.0.0.1:{server.bserver.port}"
    monkeypatch.setenv("EMS_PLC1_USER", "ems")
    monkeypatch.setenv("EMS_PLC1_PASSWORD", "secret")
    monkeypatch.setenv("EMS_OPCUA_USER", "somebody")

    def driver(**security: Any) -> OpcUaDriver:
        files = {
            "certificate": str(own),
            "private_key": str(own_key),
            "trust": str(tmp_path / "plants"),
            "policy": "Aes256_Sha256_RsaPss",
            "credentials": "plc1",
        }
        return OpcUaDriver("m1", PROFILE, Device.model_validate({"profile": "x", "url": url, "security": {**files, **security}}), 2.0, {})

    trust(tmp_path / "plants", PLANT)
    trust(tmp_path / "others", made("plant"))
    wary = [driver(trust=str(tmp_path / "others")), driver(policy="Basic256Sha256")]  # a stranger; and signed only, where sealed is wanted
    for refuses, says in zip(wary, ("not trusted", "Basic256Sha256 Sign, "), strict=True):
        with pytest.raises(ConnectionLost, match=says):
            await refuses.connect()
    assert users == []
    good = driver()
    await good.connect()
    assert (await good.read())["x"].value == 120.5
    assert users == [("ems", "secret")]  # the server's own, not what the others share
    await asyncio.gather(good.close(), *(w.close() for w in wary))
    await server.stop()
