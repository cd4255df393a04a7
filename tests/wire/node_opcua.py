"""An OPC UA server that shares no code with us: node-opcua, with certificates and users, as a process of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import without

FOLDER = Path(__file__).parent / "node-opcua"
URI = "urn:test:plant"


def needed(peer: Callable[[str], Path]) -> Path:
    """Return the program that runs the server; without it, or its packages, skip or fail as for every peer."""
    node = peer("node")
    if not (FOLDER / "node_modules" / "node-opcua").is_dir():
        without(f"node-opcua is not installed: npm ci --ignore-scripts --prefix {FOLDER}")
    return node


@dataclass
class Turbine:
    """The running server.

    Attributes
    ----------
    users : list[dict[str, Any]]
        Who asked to come in, and whether they might.
    """

    process: asyncio.subprocess.Process
    port: int
    users: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}"

    async def shows(self, name: str, value: Any, status: str = "Good") -> None:
        """Let a node have a value, and return once it has."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"name": name, "value": value, "status": status}).encode() + b"\n")
        await self.told("set")

    async def told(self, key: str) -> dict[str, Any]:
        """Return the next line with a key; those about users are kept."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if not line.startswith(b"{"):
                continue
            said: dict[str, Any] = json.loads(line)
            if "user" in said:
                self.users.append(said)
            if key in said:
                return said
        raise AssertionError(f"node-opcua ended with {await self.process.wait()}")

    async def kill(self) -> None:
        """End it as a power cut does."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def turbine(node: Path, port: int, folder: Path, certificate: Path, key: Path, **options: Any) -> AsyncIterator[Turbine]:
    """Run the server until the end of the block; gives it once it listens."""
    given = {"port": port, "folder": str(folder), "certificate": str(certificate), "key": str(key), "uri": URI, "user": "ems", "password": "secret"}
    given |= {"policies": ["Basic256Sha256", "Aes256_Sha256_RsaPss"], "sessions": 10, **options}
    process = await asyncio.create_subprocess_exec(
        node, FOLDER / "server.js", json.dumps(given), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    made = Turbine(process, port)
    try:
        await made.told("ready")
        yield made
    finally:
        await made.kill()
