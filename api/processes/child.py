"""What the supervisor's children do alike: begin, hear that the end is wanted, and make it certain."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ems.errors import EmsError


def run_child(name: str, serve: Callable[[Mapping[str, Any]], Coroutine[Any, Any, None]], argument: str, level: int = logging.INFO) -> int:
    """Run a child on its one argument, a JSON document; returns its exit code."""
    logging.basicConfig(level=level, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(serve(json.loads(argument)))
    except EmsError as error:
        logging.getLogger(name).error("%s", error)
        return 1
    return 0


def on_signals(end: Callable[[], object]) -> None:
    """End on SIGTERM; Ctrl-C reaches the whole group and is left to the supervisor, who ends us by our stdin."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_signal_handler(signal.SIGINT, lambda: None)


def tell(document: Mapping[str, Any]) -> None:
    """Send a line up the pipe."""
    print(json.dumps(document), flush=True)


def end_soon(within_s: float) -> None:
    """Make the end certain, whatever hangs: what counts is committed, and devices fall back by themselves."""
    timer = threading.Timer(within_s, os._exit, (0,))
    timer.daemon = True
    timer.start()
