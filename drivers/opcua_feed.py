"""What a server tells by itself: one subscription for all nodes of a session, and whether it is still alive.

The library's own watchdog and reconnection are not used: a publish loop that has ended says nothing. A
subscription that neither tells of a change nor gives a keep-alive for three of its periods is silent, whatever
else works.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from datetime import datetime

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaError

from ems.clock import real_s

LOG = logging.getLogger("control")
SILENT_PERIODS = 3.0
LIFETIME_S = 20.0
"""How long the server keeps the subscription of a client that does not ask any more [s]."""
LAST_SEQUENCE = 2**32 - 1

Take = Callable[[ua.NodeId, ua.DataValue, float, datetime | None], None]
"""Takes a node's answer, when it came [s, monotonic], and the server's clock then."""


class Feed:
    """One subscription.

    Parameters
    ----------
    period_s : float
        Wanted publishing period; nodes are sampled twice in it [s].
    take : Take
    """

    def __init__(self, period_s: float, take: Take) -> None:
        self.period_s = period_s
        self.began_s = self.heard_s = 0.0
        self.ended = False
        self.gap = False
        """Whether a message was lost, so that a change may have been missed."""
        self.refused: tuple[ua.NodeId, ...] = ()
        """Nodes that the server does not watch for us; they are read."""
        self._take = take
        self._nodes: Sequence[ua.NodeId] = ()
        self._sequence: int | None = None
        self._id: int | None = None
        self._keep_alive = 1

    @property
    def word_s(self) -> float:
        """How often it speaks at least: a keep-alive where nothing has changed [s]."""
        return self.period_s * self._keep_alive

    @property
    def silent_s(self) -> float:
        """After how long without a word it counts as silent [s]."""
        return SILENT_PERIODS * self.word_s

    def silent(self, now_s: float) -> bool:
        """Whether it has ended or said nothing for too long."""
        return self.ended or now_s - self.heard_s > self.silent_s

    async def start(self, client: Client, nodes: Sequence[ua.NodeId], per_call: int) -> None:
        """Subscribe to nodes.

        Raises
        ------
        UaError
            The server refuses the subscription, or every node of it.
        """
        self._nodes = nodes
        asked = ua.CreateSubscriptionParameters()
        asked.RequestedPublishingInterval = self.period_s * 1000.0
        asked.RequestedMaxKeepAliveCount = 1
        asked.RequestedLifetimeCount = max(10, math.ceil(LIFETIME_S / self.period_s))
        self.began_s = self.heard_s = real_s()
        given = await client.uaclient.create_subscription(asked, self._heard)
        self._id, self.period_s, self._keep_alive = given.SubscriptionId, given.RevisedPublishingInterval / 1000.0, max(1, given.RevisedMaxKeepAliveCount)
        refused = []
        for first in range(0, len(nodes), per_call):
            part = nodes[first : first + per_call]
            answers = await client.uaclient.create_monitored_items(self._items(first, part))
            refused += [node for node, answer in zip(part, answers, strict=True) if not answer.StatusCode.is_good()]
        self.refused = tuple(refused)
        if nodes and len(refused) == len(nodes):
            await self.end(client)
            raise UaError("the server watches none of the nodes")

    def _items(self, first: int, nodes: Sequence[ua.NodeId]) -> ua.CreateMonitoredItemsParameters:
        wanted = ua.CreateMonitoredItemsParameters()
        wanted.SubscriptionId = self._id
        wanted.TimestampsToReturn = ua.TimestampsToReturn.Source
        for handle, node in enumerate(nodes, first):
            item = ua.MonitoredItemCreateRequest()
            item.ItemToMonitor.NodeId = node
            item.ItemToMonitor.AttributeId = AttributeIds.Value
            item.MonitoringMode = ua.MonitoringMode.Reporting
            item.RequestedParameters.ClientHandle = handle
            item.RequestedParameters.SamplingInterval = self.period_s * 500.0
            item.RequestedParameters.QueueSize = 1  # control wants the newest and nothing else
            wanted.ItemsToCreate.append(item)
        return wanted

    def _heard(self, result: ua.PublishResult) -> None:
        """Take what the server published; a keep-alive is an empty message. Never raises: the library would only log it."""
        if self.ended:
            return  # the word of a session that was given up
        message, now_s = result.NotificationMessage, real_s()
        for data in message.NotificationData or ():
            if isinstance(data, ua.DataChangeNotification):
                for item in data.MonitoredItems or ():
                    if 0 <= item.ClientHandle < len(self._nodes):
                        self._take(self._nodes[item.ClientHandle], item.Value, now_s, message.PublishTime)
            elif isinstance(data, ua.StatusChangeNotification):
                self.ended = True
        if message.NotificationData:
            due = None if self._sequence is None else self._sequence % LAST_SEQUENCE + 1
            self.gap |= due is not None and message.SequenceNumber != due
            self._sequence = message.SequenceNumber
        self.heard_s = now_s

    async def end(self, client: Client) -> None:
        """Give the subscription back; one that the server does not know any more is gone already."""
        self.ended = True
        if self._id is not None:
            try:
                await client.uaclient.delete_subscriptions([self._id])
            except UaError as error:
                LOG.debug("subscription %s: %s", self._id, error)
