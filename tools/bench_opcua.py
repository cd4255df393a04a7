"""What 1,000 OPC UA points cost the control process: by subscription and by batched reads, in one run against one server."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from typing import Any

POINTS = 1000
DEVICES = 20
SECONDS = 20
WARM_UP = 3
BUDGET_MS = 50.0


async def served(points: int) -> None:
    """Serve so many numbers, each changing once a second, until the input closes; prints the url once it listens."""
    from asyncua import ua
    from asyncua.server.server import Server

    server = Server()
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    await server.register_namespace("urn:bench")
    nodes = [await server.nodes.objects.add_variable(ua.NodeId.from_string(f"ns=2;s=p{k}"), f"p{k}", 0.0, ua.VariantType.Double) for k in range(points)]
    async with server:
        assert server.bserver is not None
        print(f"opc.tcp://127.0.0.1:{server.bserver.port}", flush=True)
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        count, due_s = 0, time.monotonic()
        while not ended.done():
            due_s += 1.0
            count += 1
            for k, node in enumerate(nodes):
                await server.write_attribute_value(node.nodeid, ua.DataValue(ua.Variant(float(count + k), ua.VariantType.Double)))
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))


async def cost(url: str, subscribe: bool) -> tuple[float, float, float]:
    """Return the CPU per second [ms], the changes seen per second, and the greatest age [s] of 1,000 points read once a second."""
    from drivers.opcua import OpcUaDriver, OpcUaLink
    from ems.config.profile import Profile
    from ems.config.site import Device

    device = Device.model_validate({"profile": "bench", "url": url})
    link = OpcUaLink(device, 1.0, subscribe)
    each = POINTS // DEVICES
    drivers = []
    for d in range(DEVICES):
        points = {f"x{k}": {"node": f"ns=2;s=p{d * each + k}", "type": "Double"} for k in range(each)}
        profile = Profile.model_validate({"profile": "bench", "kind": "meter", "protocol": "opcua", "points": points})
        drivers.append(OpcUaDriver(f"d{d}", profile, device, 2.0, {}, link))
    await asyncio.gather(*(driver.connect() for driver in drivers))
    seen: dict[tuple[int, str], Any] = {}
    changes, oldest, began = 0, 0.0, 0.0
    for second in range(WARM_UP + SECONDS):
        if second == WARM_UP:
            changes, oldest, began = 0, 0.0, time.process_time()
        for d, readings in enumerate(await asyncio.gather(*(driver.read() for driver in drivers))):
            for name, reading in readings.items():
                oldest = max(oldest, reading.age_s)
                if seen.get((d, name)) != reading.value:
                    changes, seen[d, name] = changes + 1, reading.value
        await asyncio.sleep(1.0)
    spent = time.process_time() - began
    await link.close()
    return 1000.0 * spent / SECONDS, changes / SECONDS, oldest


async def measured() -> list[tuple[str, float, float, float]]:
    """Return name and figures of both ways."""
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "tools.bench_opcua", str(POINTS), stdin=PIPE, stdout=PIPE)
    assert server.stdout is not None and server.stdin is not None
    try:
        url = (await server.stdout.readline()).decode().strip()
        return [(name, *await cost(url, subscribe)) for name, subscribe in (("subscription", True), ("batched reads", False))]
    finally:
        server.stdin.close()
        await server.wait()


def opcua_rows() -> list[Sequence[object]]:
    """Return the rows of the table."""
    found = asyncio.run(measured())
    least = found[0][1]
    return [[name, POINTS, DEVICES, changes, spent, spent / BUDGET_MS, spent / least, age] for name, spent, changes, age in found]


if __name__ == "__main__":
    asyncio.run(served(int(sys.argv[1])))
