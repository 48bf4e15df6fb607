"""Ethernet frames for the programs to judge, built inside out: `frame(ip(src, dst, tcp(1025, 80, "S")))`.

Checksums stay zero: no program reads them. A builder says what is normal; its keywords are for what is not.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

TCP, UDP, SCTP, ICMP, ICMPV6, GRE = 6, 17, 132, 1, 58, 47
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, NO_NEXT = 0, 43, 44, 60, 59

FLAGS: Final = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "A": 0x10}

_IPV4, _IPV6, _ARP, _VLAN = 0x0800, 0x86DD, 0x0806, 0x8100
_MACS: Final = bytes.fromhex("02000000000b 02000000000a")  # destination, source


@dataclass(frozen=True, slots=True)
class Layer:
    """A transport header with what follows, and its protocol number."""

    protocol: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet and its EtherType."""

    ethertype: int
    raw: bytes


def frame(packet: Packet) -> bytes:
    return _MACS + packet.ethertype.to_bytes(2, "big") + packet.raw


# transport


def tcp(source: int, destination: int, flags: str = "A", payload: bytes = b"", *, header_words: int = 5) -> Layer:
    bits = sum(FLAGS[flag] for flag in flags)
    return Layer(
        TCP, struct.pack("!HHIIBBHHH", source, destination, 1, 1, header_words << 4, bits, 64, 0, 0) + payload
    )


def udp(source: int, destination: int, payload: bytes = b"") -> Layer:
    return Layer(UDP, struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload)


def sctp(source: int, destination: int, payload: bytes = b"\x01\0\0\x04") -> Layer:
    return Layer(SCTP, struct.pack("!HHII", source, destination, 7, 0) + payload)


def icmp(kind: int, ident: int = 0, code: int = 0, payload: bytes = b"") -> Layer:
    return Layer(ICMP, struct.pack("!BBHHH", kind, code, 0, ident, 1) + payload)


def icmp6(kind: int, ident: int = 0, code: int = 0, payload: bytes = b"") -> Layer:
    return Layer(ICMPV6, struct.pack("!BBHHH", kind, code, 0, ident, 1) + payload)


def error(family: int, quoted: Packet, *, unreachable: bool = True) -> Layer:
    """Port unreachable, or time exceeded, about `quoted`: as much of it as its sender quotes."""
    if family == 4:
        return icmp(3 if unreachable else 11, code=3 if unreachable else 0, payload=quoted.raw[:28])
    return icmp6(1 if unreachable else 3, code=4 if unreachable else 0, payload=quoted.raw[:1232])


# network


def ip(source: str, destination: str, inner: Layer, **unusual: int) -> Packet:
    """IPv4 or IPv6, as the source's address says."""
    return (ipv4 if ip_address(source).version == 4 else ipv6)(source, destination, inner, **unusual)


def ipv4(
    source: str,
    destination: str,
    inner: Layer,
    *,
    ttl: int = 64,
    ident: int = 1,
    offset: int = 0,
    more: int = 0,
    options: int = 0,
    length: int | None = None,
    version: int = 4,
) -> Packet:
    """`offset` in bytes; `options`: how many words of them; `length`: a lie about the total."""
    total = 20 + 4 * options + len(inner.raw) if length is None else length
    header = struct.pack(
        "!BBHHHBBH4s4s",
        version << 4 | 5 + options,
        0,
        total,
        ident,
        more << 13 | offset >> 3,
        ttl,
        inner.protocol,
        0,
        ip_address(source).packed,
        ip_address(destination).packed,
    )
    return Packet(_IPV4, header + b"\x01\x01\x01\x00" * options + inner.raw)


def ipv6(
    source: str,
    destination: str,
    inner: Layer,
    *,
    ttl: int = 64,
    length: int | None = None,
    version: int = 6,
) -> Packet:
    payload = len(inner.raw) if length is None else length
    header = struct.pack(
        "!IHBB16s16s",
        version << 28,
        payload,
        inner.protocol,
        ttl,
        ip_address(source).packed,
        ip_address(destination).packed,
    )
    return Packet(_IPV6, header + inner.raw)


def extension(kind: int, inner: Layer, *, words: int = 0, segments_left: int = 0) -> Layer:
    """Hop-by-hop, destination options or routing header before `inner`: 8 * (words + 1) bytes."""
    body = bytes([0, segments_left]) if kind == ROUTING else b"\x01\x00"
    return Layer(kind, bytes([inner.protocol, words]) + body.ljust(6 + 8 * words, b"\0") + inner.raw)


def fragment6(inner: Layer, *, ident: int = 1, offset: int = 0, more: int = 0) -> Layer:
    return Layer(FRAGMENT, struct.pack("!BBHI", inner.protocol, 0, offset | more, ident) + inner.raw)


def fragments(source: str, destination: str, inner: Layer, *, size: int = 16, ident: int = 1) -> list[bytes]:
    """Frames: the whole transport packet in pieces of `size` bytes, a multiple of 8."""
    frames = []
    for offset in range(0, len(inner.raw), size):
        piece = Layer(inner.protocol, inner.raw[offset : offset + size])
        more = int(offset + size < len(inner.raw))
        if ip_address(source).version == 4:
            frames.append(frame(ipv4(source, destination, piece, ident=ident, offset=offset, more=more)))
        else:
            frames.append(frame(ipv6(source, destination, fragment6(piece, ident=ident, offset=offset, more=more))))
    return frames


# link


def arp() -> bytes:
    return frame(Packet(_ARP, struct.pack("!HHBBH", 1, _IPV4, 6, 4, 1) + bytes(20)))


def vlan(packet: Packet, number: int = 7) -> bytes:
    return _MACS + struct.pack("!HHH", _VLAN, number, packet.ethertype) + packet.raw


def unknown(ethertype: int = 0x88CC) -> bytes:
    return frame(Packet(ethertype, bytes(46)))
