"""A serial line of this machine under the link: RS-485 or RS-232 with Modbus' serial frames."""

from __future__ import annotations

import asyncio
import os

import serial

from drivers.frames import RtuFrames
from drivers.link import ModbusLink
from drivers.stream import Stream
from ems.config.endpoint import Endpoint

GAP_CHARACTERS = 3.5
"""Frames are kept apart by so many characters of silence."""
SHORTEST_GAP_S = 0.00175
"""The gap above 19200 baud [s]; the Modbus serial line specification, 2.5.1.1."""


class SerialLink(ModbusLink):
    """The units on one serial line.

    Parameters
    ----------
    line : Endpoint
        A `rtu://` url.
    timeout_s : float
        The longest a single answer may take [s].
    """

    keeps = True

    def __init__(self, line: Endpoint, timeout_s: float) -> None:
        super().__init__(line.path, 0, timeout_s, RtuFrames())
        self.line = line
        self.gap_s = max(SHORTEST_GAP_S, GAP_CHARACTERS * line.character_s)

    def __str__(self) -> str:
        return f"rtu://{self.line.path}"

    async def _connected(self, stream: Stream) -> Stream:
        """Open the port for us alone."""
        try:
            port = serial.Serial(
                self.line.path, self.line.baud, parity=self.line.parity, stopbits=self.line.stop_bits, timeout=0, write_timeout=0, exclusive=True
            )
        except serial.SerialException as error:
            raise OSError(str(error)) from error
        stream.connection_made(_SerialTransport(port, stream))
        return stream


class _SerialTransport(asyncio.Transport):
    """A serial port as a transport: what a frame needs and no more."""

    def __init__(self, port: serial.Serial, stream: Stream) -> None:
        super().__init__()
        self._port, self._stream = port, stream
        self._loop = asyncio.get_running_loop()
        self._fd = port.fileno()
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 512)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if data:
            self._stream.data_received(data)
        else:
            self._end(None)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hand a frame to the port, whose own buffer is longer than any frame; a port that does not take it is lost."""
        try:
            sent = os.write(self._fd, data)
        except OSError as error:
            self._end(error)
            return
        if sent < len(data):
            self._end(None)

    def abort(self) -> None:
        """Close the port."""
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._port.is_open:
            self._loop.remove_reader(self._fd)
            self._port.close()
            self._stream.connection_lost(error)
