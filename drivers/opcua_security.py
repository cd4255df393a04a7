"""Who may be talked to over OPC UA, and over what: pinned servers, sound policies, secrets only where both hold.

The library by itself encrypts, but trusts any server. Here the server's certificate is looked at before a
channel is opened to it: it is in the `trust` folder byte for byte, or signed by an authority in there and made
out to the host of the url. User and password go over a channel that is signed and encrypted, and over no other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import CertProperties
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256

from drivers.credentials import user_and_password
from ems.clock import WallClock
from ems.config.site import Security
from ems.errors import BadAnswer, BadInput

LOG = logging.getLogger("control")
CERTIFICATES = (".der", ".pem", ".crt", ".cer")
DEPRECATED = ("Basic128Rsa15", "Basic256")


def secured(security: Security | None) -> bool:
    """Whether a channel with signature or encryption is wanted."""
    return security is not None and security.policy != "none"


def check_files(security: Security, where: str) -> tuple[Path, Path, list[x509.Certificate]]:
    """Return our certificate and key and the certificates that we trust.

    Raises
    ------
    BadInput
        One of them is missing, unreadable or empty.
    """
    files = []
    for field in ("certificate", "private_key"):
        named = getattr(security, field)
        path = Path(named) if named else None
        if path is None or not path.is_file():
            raise BadInput(
                f"no file {path}" if path else f"no {field}", f"{where} security.{field}", "a file in PEM or DER, named from where the EMS is started"
            )
        files.append(path)
    own = _load(files[0], f"{where} security.certificate")
    if not _uris(own):
        raise BadInput("our certificate names no application", f"{where} security.certificate", "a subjectAltName with URI:urn:..., which servers compare")
    return files[0], files[1], _trusted(security, where)


def check_security(security: Security | None, where: str) -> None:
    """Refuse at once what could never work, or would show a password to the network."""
    if security is None or not secured(security):
        return
    check_files(security, where)
    if security.mode != "SignAndEncrypt" and user_and_password("opcua", security.credentials) is not None:
        raise BadInput("user and password would travel without encryption", f"{where} security.mode", "SignAndEncrypt")


def _trusted(security: Security, where: str) -> list[x509.Certificate]:
    folder = Path(security.trust) if security.trust else None
    if folder is None or not folder.is_dir():
        raise BadInput(f"no folder {folder}" if folder else "no trust folder", f"{where} security.trust", "a folder with the server's certificate")
    found = [_load(file, f"{where} security.trust") for file in sorted(folder.iterdir()) if file.suffix.lower() in CERTIFICATES]
    if not found:
        raise BadInput(f"no certificate in {folder}", f"{where} security.trust", "the server's certificate as .der, .pem, .crt or .cer")
    return found


def _load(path: Path, where: str) -> x509.Certificate:
    data = path.read_bytes()
    try:
        return x509.load_pem_x509_certificate(data) if b"-----BEGIN" in data else x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise BadInput(f"{path} is no certificate", where, "X.509 in PEM or DER") from error


async def secure(client: Client, security: Security) -> None:
    """Make ready a client for one server: its endpoint chosen, its certificate trusted, user and password set.

    Raises
    ------
    BadAnswer
        The server offers nothing as safe as is wanted, or is not one that we trust.
    BadInput
        Our own certificate, key or trust folder cannot be used.
    """
    if not secured(security):
        return  # and no user or password either
    where = client.server_url.geturl()
    certificate, key, trusted = check_files(security, where)
    policy = getattr(security_policies, f"SecurityPolicy{security.policy.replace('_', '')}")
    mode = getattr(ua.MessageSecurityMode, security.mode)
    offered = await client.connect_and_get_server_endpoints()
    shown = [e.ServerCertificate for e in offered if e.SecurityPolicyUri == policy.URI and e.SecurityMode == mode and e.ServerCertificate]
    if not shown:
        raise BadAnswer("the server offers no endpoint that is as safe", where, f"{security.policy} {security.mode}; it offers {told_offer(offered)}")
    theirs = x509.load_der_x509_certificate(first_of_chain(shown[0]))
    refuse_stranger(theirs, trusted, client.server_url.hostname or "", where)
    # servers refuse a client with another uri than its certificate's
    client.application_uri = _uris(_load(certificate, where))[0]
    await client.set_security(
        policy,
        certificate=CertProperties(certificate, _extension(certificate)),
        private_key=CertProperties(key, _extension(key)),
        server_certificate=first_of_chain(shown[0]),
        mode=mode,
    )
    known = user_and_password("opcua", security.credentials)
    if known is not None and mode == ua.MessageSecurityMode.SignAndEncrypt:
        client.set_user(known[0])
        client.set_password(known[1])


def _extension(path: Path) -> str:
    return "pem" if b"-----BEGIN" in path.read_bytes() else "der"


def first_of_chain(data: bytes) -> bytes:
    """Return the first certificate of a chain in DER: a server may send its issuers behind its own."""
    if len(data) < 4 or data[0] != 0x30 or not data[1] & 0x80:
        return data
    size = data[1] & 0x7F
    return data[: 2 + size + int.from_bytes(data[2 : 2 + size], "big")]


def told_offer(endpoints: Iterable[ua.EndpointDescription]) -> str:
    """Return what a server offers, for the error."""
    offers = (f"{(e.SecurityPolicyUri or '').rpartition('#')[2]} {e.SecurityMode.name.rstrip('_')}" for e in endpoints)
    return ", ".join(o + (" (broken, deprecated)" if o.split()[0] in DEPRECATED else "") for o in dict.fromkeys(offers)) or "nothing"


def refuse_stranger(theirs: x509.Certificate, trusted: Sequence[x509.Certificate], host: str, where: str) -> None:
    """Refuse a server whose certificate is not pinned and not signed for this host by a pinned authority.

    A pinned certificate that has run out is used on, with a warning: who put it there meant this very server, and
    an island must not lose its devices to a date, or to a gateway that woke up without one.
    """
    now = WallClock().now()
    if theirs in trusted:
        if not theirs.not_valid_before_utc <= now <= theirs.not_valid_after_utc:
            LOG.warning("%s: the server's certificate is valid from %s to %s", where, theirs.not_valid_before_utc.date(), theirs.not_valid_after_utc.date())
        return
    signed = any(_is_authority(issuer) and _signed_by(theirs, issuer) for issuer in trusted)
    if not signed:
        raise BadAnswer(f"the server's certificate is not trusted (SHA-256 {thumbprint(theirs)})", where, "a certificate in the trust folder")
    if host not in _hosts(theirs):
        raise BadAnswer("the server's certificate is made out to another host", where, f"{host}; it names {' | '.join(_hosts(theirs)) or 'none'}")
    if not theirs.not_valid_before_utc <= now <= theirs.not_valid_after_utc:
        raise BadAnswer(
            "the server's certificate has run out or is not valid yet", where, f"a time within {theirs.not_valid_before_utc} to {theirs.not_valid_after_utc}"
        )


def thumbprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate, by which people compare it."""
    return certificate.fingerprint(SHA256()).hex()


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _hosts(certificate: x509.Certificate) -> list[str]:
    names = _alternatives(certificate)
    return [] if names is None else [*names.get_values_for_type(x509.DNSName), *(str(a) for a in names.get_values_for_type(x509.IPAddress))]


def _uris(certificate: x509.Certificate) -> list[str]:
    names = _alternatives(certificate)
    return [] if names is None else names.get_values_for_type(x509.UniformResourceIdentifier)


def _alternatives(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def told(error: BaseException) -> str:
    """Return an error's own words, or its name where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
