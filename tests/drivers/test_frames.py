"""Modbus frames: bytes written by hand from the specification, and answers that do not fit."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.frames import Rejected as Rejected
from drivers.frames import RtuFrames, TcpFrames, crc16, reading, words_of, writing

ASK = reading("holding", 10, 2)
GOOD = bytes.fromhex("03040001ffff")


def refused(reason: str) -> None:
    raise AssertionError(f"nothing was to be skipped: {reason}")


def test_questions_by_hand() -> None:
    """Examples of the Modbus application protocol specification, 6.1 to 6.12."""
    assert reading("coil", 0x13, 0x13).pdu.hex() == "0100130013"
    assert reading("discrete", 0xC4, 0x16).pdu.hex() == "0200c40016"
    assert reading("holding", 0x6B, 3).pdu.hex() == "03006b0003"
    assert reading("input", 8, 1).pdu.hex() == "0400080001"
    assert writing("coil", 0xAC, [1]).pdu.hex() == "0500acff00"
    assert writing("holding", 1, [3]).pdu.hex() == "0600010003"
    assert writing("coil", 0x13, [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]).pdu.hex() == "0f0013000a02cd01"
    assert writing("holding", 1, [10, 0x102]).pdu.hex() == "100001000204000a0102"
    assert [reading("coil", 0, n).size for n in (1, 8, 9, 2000)] == [3, 3, 4, 252]
    assert words_of(reading("coil", 0x13, 10), bytes.fromhex("0102cd01"), 10) == [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]
    assert words_of(ASK, GOOD, 2) == [1, 0xFFFF]


def test_frames_by_hand() -> None:
    tcp = TcpFrames()
    assert [tcp.wrap(7, ASK.pdu).hex() for _ in range(2)] == ["00010000000607" + "03000a0002", "00020000000607" + "03000a0002"]
    # the specification of the serial line has no whole frame; this one is known from every Modbus primer: 01 04 02 FF FF B8 80
    assert crc16(bytes.fromhex("010402ffff")).hex() == "b880"
    assert RtuFrames().wrap(1, bytes.fromhex("0402ffff")).hex() == "010402ffffb880"


def test_no_number_is_0() -> None:
    tcp = TcpFrames()
    numbers = [int.from_bytes(tcp.wrap(1, ASK.pdu)[:2], "big") for _ in range(0x10001)]
    assert min(numbers) == 1
    assert max(numbers) == 0xFFFF
    assert numbers[0xFFFF] == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("03020001", "length"),  # one word short
        ("0306000100020003", "length"),  # one more
        ("03060001ffff", "length"),  # a byte count that lies
        ("0300", "length"),
        ("04040001ffff", "function"),
        ("8402", "function"),  # an exception to another function
        ("830202", "length"),
        ("10000a0002", "function"),
    ],
)
def test_what_does_not_fit_a_read(answer: str, reason: str) -> None:
    tcp, rtu = TcpFrames(), RtuFrames()
    tcp.wrap(7, ASK.pdu)
    pdu = bytes.fromhex(answer)
    with pytest.raises(Rejected) as caught:
        tcp.take(bytearray((1).to_bytes(2, "big") + bytes(2) + (len(pdu) + 1).to_bytes(2, "big") + bytes([7]) + pdu), 7, ASK, refused)
    assert caught.value.reason == reason
    spurned: list[str] = []
    try:
        assert rtu.take(bytearray(rtu.wrap(7, pdu)), 7, ASK, spurned.append) is None
    except Rejected as misfit:  # where the bytes cannot be told from a damaged answer
        spurned.append(misfit.reason)
    assert spurned or answer in ("03060001ffff",), "skipped, or still waited for: it is shorter than it says"


@pytest.mark.parametrize(
    ("answer", "fits"),
    [("10000a0002", True), ("9003", True), ("10000b0002", False), ("10000a0001", False), ("06000a0002", False)],
)
def test_acknowledgements(answer: str, fits: bool) -> None:
    tcp, rtu, ask = TcpFrames(), RtuFrames(), writing("holding", 10, [1, 2])
    tcp.wrap(7, ask.pdu)
    pdu = bytes.fromhex(answer)
    frame = bytearray((1).to_bytes(2, "big") + bytes(2) + (len(pdu) + 1).to_bytes(2, "big") + bytes([7]) + pdu)
    if fits:
        assert tcp.take(frame, 7, ask, refused) == pdu
        assert rtu.take(bytearray(rtu.wrap(7, pdu)), 7, ask, refused) == pdu
        return
    with pytest.raises(Rejected):
        tcp.take(frame, 7, ask, refused)
    spurned: list[str] = []
    assert rtu.take(bytearray(rtu.wrap(7, pdu)), 7, ask, spurned.append) is None
    assert len(spurned) == 1


@given(data=st.binary(max_size=600), cut=st.integers(0, 600))
def test_noise_is_never_an_answer(data: bytes, cut: int) -> None:
    """A frame is only believed where number and unit, or unit and check, and the shape are right; noise raises nothing unexpected."""
    for framing in (TcpFrames(), RtuFrames()):
        framing.wrap(7, ASK.pdu)
        buffer = bytearray()
        for part in (data[:cut], data[cut:]):
            buffer += part
            try:
                answer = framing.take(buffer, 7, ASK, lambda reason: None)
            except Rejected:
                break
            if answer is not None:
                assert answer[0] & 0x7F == 3
                assert b"\x07" + answer in data


@given(noise=st.binary(max_size=30).filter(lambda n: 7 not in n), step=st.integers(1, 20))
def test_a_serial_answer_is_found_behind_noise_and_in_pieces(noise: bytes, step: int) -> None:
    rtu, buffer = RtuFrames(), bytearray()
    stream = noise + rtu.wrap(7, GOOD)
    found = None
    for at in range(0, len(stream), step):
        buffer += stream[at : at + step]
        found = found or rtu.take(buffer, 7, ASK, lambda reason: None)
    assert found == GOOD


def test_a_late_answer_of_a_neighbour_is_skipped_on_a_serial_line() -> None:
    rtu = RtuFrames()
    spurned: list[str] = []
    buffer = bytearray(rtu.wrap(6, GOOD) + rtu.wrap(7, bytes.fromhex("03020001")) + rtu.wrap(7, GOOD))
    assert rtu.take(buffer, 7, ASK, spurned.append) == GOOD
    assert spurned == ["unit", "length"]
    assert not buffer


def test_damage_is_seen_whatever_bit_turned() -> None:
    rng, rtu = random.Random(3), RtuFrames()
    frame = rtu.wrap(7, GOOD)
    for _ in range(500):
        bad = bytearray(frame)
        for bit in rng.sample(range(8 * len(bad)), rng.choice((1, 2, 3))):
            bad[bit // 8] ^= 1 << bit % 8
        try:
            assert rtu.take(bad, 7, ASK, lambda reason: None) is None
        except Rejected as misfit:
            assert misfit.reason == "crc"
