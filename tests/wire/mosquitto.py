"""A real MQTT broker on a free port, as a foreign peer."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def broker(program: Path, folder: Path, port: int, *lines: str) -> Iterator[int]:
    """Run mosquitto with these lines in its configuration; gives its port once it listens."""
    file = folder / f"mosquitto-{port}.conf"
    file.write_text("\n".join((f"listener {port} 127.0.0.1", "persistence false", "user root", *lines, "")), "utf-8")
    running = subprocess.Popen([program, "-c", file], stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr is not None
        for line in running.stderr:
            if "running" in line:
                break
        else:
            raise AssertionError(f"mosquitto ended with {running.wait()}")
        yield port
    finally:
        running.terminate()
        running.communicate(timeout=10)


def publish(program: Path, port: int, topic: str, payload: str, *options: str) -> None:
    """Publish one message with mosquitto_pub."""
    subprocess.run([program, "-h", "127.0.0.1", "-p", str(port), "-t", topic, "-m", payload, *options], check=True, timeout=20)
