"""One session with an OPC UA server, shared by the devices behind it: what it tells is watched, what it does not tell is read.

While the subscription speaks nothing is asked but a look at all nodes every ten seconds. When it is silent for
three periods all nodes are read and it is made anew; a server that refuses it, or lets it fall silent again and
again, is read in batches. Every call has its own short deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaError

from drivers.opcua_feed import Feed
from drivers.opcua_security import check_security, told
from drivers.opcua_sessions import CONNECT_S, Sessions
from drivers.opcua_sightings import Sightings
from drivers.opcua_values import count_in, time_in
from ems.clock import real_s
from ems.config.site import Device
from ems.errors import ConnectionLost, EmsError

LOG = logging.getLogger("control")
LOOK_S = 10.0
"""How often all nodes are read beside the subscription: for their stamps, and for an item that died alone [s]."""
SILENCES, STEADY_S = 2, 60.0
"""A session whose subscriptions fell silent this often, none having spoken for this long [s], is read from then on."""
SAME_START_S = 2.0
"""Start times that differ by less are one: some servers reckon theirs anew each time [s]."""
PER_CALL = 500
"""Nodes in one request, where the server does not say how many it takes."""

STARTED, STATE, CLOCK, PER_READ, PER_ITEMS = (ua.NodeId.from_string(f"i={n}") for n in (2257, 2259, 2258, 11705, 11714))
"""What every server says of itself: when it started, its state, its clock, and how much it takes at once."""
ABOUT = (STARTED, STATE, CLOCK)
RUNNING = 0


class OpcUaLink:
    """The session with one server.

    Parameters
    ----------
    device : Device
        Address and security.
    period_s : float
        The cycle [s]: the server is to tell twice in it what has changed, and one that speaks less than once is read.
    subscribe : bool
        False: every point is read every time, as it is where the server refuses subscriptions.
    """

    def __init__(self, device: Device, period_s: float = 1.0, subscribe: bool = True) -> None:
        check_security(device.security, device.url)
        self.url = device.url
        self._sessions = Sessions(device.url, device.security)
        self.period_s, self.subscribe = period_s, subscribe
        self.feed: Feed | None = None
        self.running = True
        """Whether the server says that it runs; else what it shows is suspect."""
        self._devices: list[Sightings] = []
        self._shown_by: dict[ua.NodeId, list[Sightings]] = {}
        self._client: Client | None = None
        self._opening: asyncio.Task[None] | None = None
        self._mending: asyncio.Task[None] | None = None
        self._started: datetime | None = None
        self._known = False
        self._silences = 0
        self._looked_s = 0.0
        self._per_read = self._per_items = PER_CALL

    def add(self, device: Sightings) -> None:
        """Let the session serve one more device; before it is opened."""
        self._devices.append(device)
        for node in device.seen:
            self._shown_by.setdefault(node, []).append(device)

    @property
    def open(self) -> bool:
        """Whether there is a session."""
        return self._client is not None

    @property
    def confirmed_s(self) -> float:
        """When the subscription last spoke; 0 without one [s, monotonic]."""
        return 0.0 if self.feed is None else self.feed.heard_s

    def is_read(self, node: ua.NodeId) -> bool:
        """Whether a node is read each time, because the server does not watch it for us."""
        return self.feed is None or node in self.feed.refused

    # ------------------------------------------------------------------ opening
    async def connect(self) -> None:
        """Open the session, unless it is open; whoever asks meanwhile waits for the same attempt.

        Raises
        ------
        ConnectionLost
            The server is away, refuses us, or is not one that we trust.
        """
        if self._client is not None:
            return
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._opened)
        await asyncio.shield(self._opening)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # those who waited have it

    async def _open(self) -> None:
        self._client = await self._sessions.open(self._begin)

    async def _begin(self, client: Client) -> None:
        """Learn what the server says of itself, look at every node, then subscribe."""
        self._per_read = PER_CALL
        limits = await self._ask(client, (PER_READ, PER_ITEMS))
        self._per_read, self._per_items = count_in(limits[PER_READ], PER_CALL), count_in(limits[PER_ITEMS], PER_CALL)
        about = await self._ask(client, ABOUT)
        self._silences = 0
        self._hear_of(about, new=True)
        await self._look(client)
        self.feed = await self._subscribed(client)

    async def _subscribed(self, client: Client) -> Feed | None:
        if not self.subscribe or self._silences >= SILENCES:
            return None
        feed = Feed(self.period_s / 2, self._take)
        try:
            await feed.start(client, self._nodes(), self._per_items)
            if feed.word_s > self.period_s:
                await feed.end(client)
                raise UaError(f"the server speaks every {feed.word_s:g} s only")
        except UaError as error:
            LOG.warning("%s: no subscription (%s); every point is read instead", self.url, told(error))
            return None
        return feed

    def _nodes(self) -> list[ua.NodeId]:
        return list(self._shown_by)

    def _take(self, node: ua.NodeId, answer: ua.DataValue, at_s: float, server_time: datetime | None) -> None:
        for device in self._shown_by[node]:
            device.take(node, answer, at_s, server_time)

    # ------------------------------------------------------------------ exchanges
    async def refresh(self, device: Sightings, timeout_s: float) -> None:
        """See to it that what is known of a device is new: by the subscription while it speaks, else by reading.

        Raises
        ------
        ConnectionLost
            The session is gone, or a read had no answer in time.
        """
        client, feed = self._alive(), self.feed
        if feed is None:
            async with self.exchange(timeout_s) as client:
                await self._read(client, list(device.seen))
                return
        if feed.refused:
            async with self.exchange(timeout_s) as client:
                await self._read(client, [node for node in feed.refused if node in device.seen])
        now = real_s()
        if self._mending is None and (feed.silent(now) or feed.gap or now - self._looked_s >= LOOK_S):
            self._mending = asyncio.create_task(self._mend(client, feed))
            self._mending.add_done_callback(self._mended)

    @asynccontextmanager
    async def exchange(self, timeout_s: float) -> AsyncIterator[Client]:
        """Give the open client for one exchange.

        A fault of the transport ends the session. Silence ends it, too, unless the subscription speaks: then it is one
        node behind the server that does not answer, and the other devices keep what they have.
        """
        client = self._alive()
        try:
            async with asyncio.timeout(timeout_s):
                yield client
        except TimeoutError as error:
            if self.feed is None or self.feed.silent(real_s()):
                self._drop(client)
            raise ConnectionLost(f"no answer within {timeout_s:g} s", self.url) from error
        except EmsError:
            raise
        except Exception as error:  # a server that answers nonsense makes the library raise whatever its parser met
            self._drop(client)
            raise ConnectionLost(f"the session is gone ({told(error)})", self.url) from error
        except asyncio.CancelledError:
            if self.feed is None:
                self._drop(client)
            raise

    def _alive(self) -> Client:
        client = self._client
        if client is None:
            raise ConnectionLost("not connected", self.url)
        if client.uaclient.protocol is None or client.uaclient.protocol.is_closed:
            self._drop(client)
            raise ConnectionLost("the session is gone (the server closed the connection)", self.url)
        return client

    async def ask(self, client: Client, nodes: Sequence[ua.NodeId]) -> list[ua.DataValue]:
        """Read nodes in as many requests as the server wants."""
        answers: list[ua.DataValue] = []
        for first in range(0, len(nodes), self._per_read):
            asked = ua.ReadParameters()
            asked.TimestampsToReturn = ua.TimestampsToReturn.Source
            asked.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value) for node in nodes[first : first + self._per_read]]
            got = await client.uaclient.read(asked)
            if len(got) != len(asked.NodesToRead):
                raise UaError(f"{len(got)} values came for a question about {len(asked.NodesToRead)} nodes")
            answers += got
        return answers

    async def _ask(self, client: Client, nodes: Sequence[ua.NodeId]) -> dict[ua.NodeId, ua.DataValue]:
        return dict(zip(nodes, await self.ask(client, nodes), strict=True))

    async def _read(self, client: Client, nodes: Sequence[ua.NodeId]) -> None:
        """Read nodes with the server's clock and state, and note for each device that was read whole that it was looked at."""
        sent_s = real_s()
        answers = await self._ask(client, [*ABOUT, *nodes])
        self._hear_of(answers)
        server_time = time_in(answers[CLOCK])
        for node in nodes:
            self._take(node, answers[node], sent_s, server_time)
        for device in self._devices:
            if device.seen.keys() <= answers.keys():
                device.looked_s = sent_s

    async def _look(self, client: Client) -> None:
        await self._read(client, self._nodes())
        self._looked_s = real_s()

    def _hear_of(self, answers: dict[ua.NodeId, ua.DataValue], new: bool = False) -> None:
        """Take what the server says of itself, before what it says of its nodes; `new`: in a new session."""
        state, started = answers[STATE].Value, time_in(answers[STARTED])
        self.running = state is None or state.Value is None or state.Value == RUNNING
        before, self._started = self._started, started
        restarted = new and self._known if started is None or before is None else abs((started - before).total_seconds()) > SAME_START_S
        self._known = True
        if restarted:
            LOG.warning("%s: the server has restarted; its values count again once they show life", self.url)
            self._looked_s = 0.0  # where it came to light in an open session: look at the others, too
        if restarted or new:
            for device in self._devices:
                device.begin(restarted, started)

    async def _mend(self, client: Client, feed: Feed) -> None:
        """Look at all nodes; where the subscription is silent, make a new one. What fails here ends the session."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._look(client)
                feed.gap = False
                if feed.silent(real_s()):
                    self._silences = self._silences + 1 if feed.heard_s - feed.began_s < STEADY_S else 1
                    LOG.warning("%s: the subscription fell silent; it is made anew", self.url)
                    await feed.end(client)
                    made = await self._subscribed(client)
                    if self._client is client:
                        self.feed = made
        except TimeoutError:
            self._looked_s = real_s()  # slow, but alive while the subscription speaks: look again later
            if feed.silent(self._looked_s):
                self._drop(client)
        except Exception as error:  # noqa: BLE001 - as in an exchange, but nobody waits for this one: the next cycle finds the session gone
            LOG.warning("%s: %s", self.url, told(error))
            self._drop(client)

    def _mended(self, _: asyncio.Task[None]) -> None:
        self._mending = None

    # ------------------------------------------------------------------ ending
    def _drop(self, client: Client) -> None:
        """Let go of a client at once."""
        if self._client is client:
            if self.feed is not None:
                self.feed.ended = True
            self._client, self.feed = None, None
            self._sessions.drop(client)

    async def close(self) -> None:
        """End the session, so that the server need not wait for its timeout."""
        for task in (self._opening, self._mending):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._client is not None:
            self._drop(self._client)
        await self._sessions.ended()
