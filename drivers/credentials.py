"""User and password of a field device: from the environment and from nowhere else."""

from __future__ import annotations

import os


def user_and_password(protocol: str, name: str | None) -> tuple[str, str] | None:
    """Return user and password of a server, or None where the environment has none.

    Parameters
    ----------
    protocol : str
        `opcua | mqtt`: what all servers of a protocol share is `EMS_OPCUA_USER` and `EMS_OPCUA_PASSWORD`.
    name : str | None
        `credentials` of the device: a server with its own is `EMS_<NAME>_USER` and `EMS_<NAME>_PASSWORD`,
        so that the password of one is never shown to another.
    """
    stem = f"EMS_{(name or protocol).upper().replace('-', '_')}"
    user = os.environ.get(f"{stem}_USER")
    return (user, os.environ.get(f"{stem}_PASSWORD", "")) if user else None
