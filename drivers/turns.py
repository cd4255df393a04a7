"""Who may use a shared line next."""

from __future__ import annotations

import asyncio
import heapq


class Turns:
    """Who may use a line next: the lowest rank first, within a rank in their order."""

    def __init__(self) -> None:
        self._busy = False
        self._count = 0
        self._queue: list[tuple[tuple[int, float], int, asyncio.Future[None]]] = []

    async def take(self, rank: tuple[int, float], patience_s: float | None) -> bool:
        """Wait for the turn; False where it did not come in time."""
        if not self._busy:
            self._busy = True
            return True
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._queue, (rank, self._count, mine))
        try:
            async with asyncio.timeout(patience_s):
                await mine
        except TimeoutError:
            return mine.done() and not mine.cancelled()  # it may have come in the same moment
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.give()
            raise
        return True

    def give(self) -> None:
        """Hand the line to the next one that still waits."""
        while self._queue:
            _, _, following = heapq.heappop(self._queue)
            if not following.done():
                following.set_result(None)
                return
        self._busy = False
