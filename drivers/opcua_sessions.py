"""Sessions with an OPC UA server: opened within a deadline, ended in any case, and never more than two of ours.

A client that lost its server may hang for good, so each loss ends in a new `Client`; the library's own
reconnection stays off. Servers allow few sessions and keep those of a lost client for a while: a server that says
it has too many, or may still keep two of ours, is left alone until they must be gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from asyncua.client.client import Client
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from drivers.opcua_security import secure, told
from ems.clock import real_s
from ems.config.site import Security
from ems.errors import ConnectionLost

LOG = logging.getLogger("control")
# asyncua logs a traceback for each call that fails; the loss is told once, by whoever catches our ConnectionLost
logging.getLogger("asyncua").setLevel(logging.CRITICAL)

SESSION_S = 20.0  # a server keeps the session of a lost client this long, and most servers allow few sessions
CONNECT_S = 5.0  # endpoints, channel, RSA, session and a first look at all nodes are some fifteen round trips; a read is one
CLOSE_S = 1.0
MOST_SESSIONS = 2


class Sessions:
    """The sessions that one of our processes has with one server."""

    def __init__(self, url: str, security: Security | None) -> None:
        self.url, self.security = url, security
        self._session_s = SESSION_S
        self._not_before_s = 0.0
        self._kept_until_s: list[float] = []  # until when the server may keep sessions that we could not end
        self._ending: set[asyncio.Task[None]] = set()

    async def open(self, begin: Callable[[Client], Awaitable[None]]) -> Client:
        """Return a new client with a session, after `begin` has made its first exchanges with it.

        Raises
        ------
        ConnectionLost
            The server is away, refuses us, is not one that we trust, or is to be left alone.
        """
        await self.ended()
        now = real_s()
        self._kept_until_s = [until for until in self._kept_until_s if until > now]
        if now < self._not_before_s or len(self._kept_until_s) >= MOST_SESSIONS:
            raise ConnectionLost("the server has no session left; waiting for old ones to end", self.url)
        client = Client(self.url, timeout=CONNECT_S, watchdog_intervall=SESSION_S / 2, auto_reconnect=False)
        client.session_timeout, client.name, client.description = int(SESSION_S * 1000), "Shima EMS", "Shima EMS"
        opened, unsure = False, False
        try:
            async with asyncio.timeout(CONNECT_S):
                if self.security is not None:
                    await secure(client, self.security)
                await client.connect()
                self._session_s = max(SESSION_S, client.session_timeout / 1000.0)
                await begin(client)
            opened = True
        except Exception as error:  # a refused certificate is a bare AssertionError, and nonsense whatever the parser met
            unsure = isinstance(error, TimeoutError)
            if isinstance(error, UaStatusCodeError) and error.code == StatusCodes.BadTooManySessions:
                self._not_before_s = real_s() + self._session_s
            raise ConnectionLost(f"no OPC UA session ({told(error)})", self.url) from error
        finally:
            if not opened:
                self.drop(client, unsure)
        return client

    def drop(self, client: Client, unsure: bool = False) -> None:
        """End a session beside us, so that a dead server delays nobody; `unsure`: it may not even have begun."""
        task = asyncio.create_task(self._end(client, unsure))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, client: Client, unsure: bool) -> None:
        """Close a session; where that cannot be seen to be done the server may keep it until its timeout."""
        transport, held = client.uaclient.protocol, client.uaclient.has_session or unsure
        try:
            async with asyncio.timeout(CLOSE_S):
                if transport is not None and not transport.is_closed:
                    await client.close_session()
                    held = unsure
                await client.disconnect()
        except (OSError, TimeoutError, UaError) as error:
            LOG.debug("%s: %s", self.url, told(error))
        finally:
            client.disconnect_socket()
            if held and transport is not None:
                self._kept_until_s.append(real_s() + self._session_s)

    async def ended(self) -> None:
        """Wait until every session that was dropped has ended, or could not be."""
        await asyncio.gather(*self._ending)
