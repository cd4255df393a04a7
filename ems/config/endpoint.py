"""Where a device is reached: its url as values.

`tcp://HOST:PORT` is Modbus TCP, `rtu+tcp://HOST:PORT` serial frames over TCP as transparent gateways carry them,
`rtu:///dev/ttyX?baud=9600&parity=N&stop=1` a serial line of this machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from ems.errors import BadInput

BAUDS = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400)
PARITIES = {"N": 0, "E": 1, "O": 1}
"""By letter: how many bits a parity adds to each character."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The far end of one line.

    Attributes
    ----------
    scheme : str
        `tcp | rtu+tcp | rtu | opc.tcp | mqtt | mqtts`.
    host, port : str, int
        Empty and 0 for a serial line.
    path : str
        Of the serial device; else what follows the port.
    baud, parity, stop_bits : int, str, int
        Of the serial line.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1

    @property
    def serial(self) -> bool:
        """Whether Modbus' serial frames run here, which have no transaction number."""
        return self.scheme in ("rtu", "rtu+tcp")

    @property
    def character_s(self) -> float:
        """How long one character takes on the wire: start, eight data, parity and stop bits [s]; 0 over TCP."""
        return (9 + PARITIES[self.parity] + self.stop_bits) / self.baud if self.scheme == "rtu" else 0.0

    def __str__(self) -> str:
        return f"rtu://{self.path}" if self.scheme == "rtu" else f"{self.scheme}://{self.host}:{self.port}"


def endpoint(url: str) -> Endpoint:
    """Return the parts of a device url.

    Raises
    ------
    BadInput
        It is none, with what was expected.
    """
    parts = urlsplit(url)
    if parts.scheme == "rtu":
        return _serial_line(url, parts.path, parts.netloc, parts.query)
    if not re.fullmatch(r"[^/\s:@]+:\d{1,5}", parts.netloc) or not 1 <= int(parts.netloc.rpartition(":")[2]) <= 65535:
        raise BadInput(f"{url} has no port that exists", expected=f"{parts.scheme}://HOST:PORT with a port from 1 to 65535")
    host, _, port = parts.netloc.rpartition(":")
    if parts.scheme in ("tcp", "rtu+tcp") and (parts.path or parts.query):
        raise BadInput(f"{url} goes on after the port", expected=f"{parts.scheme}://HOST:PORT")
    return Endpoint(parts.scheme, host, int(port), parts.path)


def _serial_line(url: str, path: str, netloc: str, query: str) -> Endpoint:
    form = "rtu:///dev/ttyUSB0?baud=9600&parity=N&stop=1"
    if netloc or not re.fullmatch(r"/dev/\S+", path):
        raise BadInput(f"{url} names no serial device", expected=f"{form}, with three slashes")
    given = parse_qsl(query, keep_blank_values=True)
    options = dict(given)
    if len(options) < len(given) or query.count("&") + bool(query) != len(given):
        raise BadInput(f"{url} has an option twice or one that is none", expected=form)
    unknown = options.keys() - {"baud", "parity", "stop"}
    if unknown:
        raise BadInput(f"{url} has an unknown option {min(unknown)!r}", expected="baud | parity | stop")
    baud, parity, stop = options.get("baud", "9600"), options.get("parity", "N").upper(), options.get("stop", "1")
    if baud not in map(str, BAUDS):
        raise BadInput(f"{baud!r} is no baud rate", expected=" | ".join(map(str, BAUDS)))
    if parity not in PARITIES:
        raise BadInput(f"{parity!r} is no parity", expected="N | E | O")
    if stop not in ("1", "2"):
        raise BadInput(f"{stop!r} is no number of stop bits", expected="1 | 2")
    return Endpoint("rtu", path=path, baud=int(baud), parity=parity, stop_bits=int(stop))
