"""The words for the numbers in events and flows, as Cilium's monitor and Hubble print them. The observer and
the command line share them; nothing here needs protobuf or gRPC.
"""

from __future__ import annotations

import enum
from typing import Final

from weft.policies.identity import RESERVED


class MessageType(enum.IntEnum):
    """`event_type.type` of a flow. 0 to 128 are the programs', the rest is what agents and proxies say."""

    DROP = 1
    DEBUG = 2
    CAPTURE = 3
    TRACE = 4
    POLICY_VERDICT = 5
    TRACE_SOCK = 7
    L7 = 129
    AGENT = 130


MESSAGE_TYPES: Final = {
    "drop": MessageType.DROP,
    "debug": MessageType.DEBUG,
    "capture": MessageType.CAPTURE,
    "trace": MessageType.TRACE,
    "policy-verdict": MessageType.POLICY_VERDICT,
    "trace-sock": MessageType.TRACE_SOCK,
    "l7": MessageType.L7,
    "agent": MessageType.AGENT,
}

TRACE_POINTS: Final = {
    0: "to-endpoint",
    1: "to-proxy",
    2: "to-host",
    3: "to-stack",
    4: "to-overlay",
    5: "from-endpoint",
    6: "from-proxy",
    7: "from-host",
    8: "from-stack",
    9: "from-overlay",
    10: "from-network",
    11: "to-network",
    12: "from-crypto",
    13: "to-crypto",
}

#: `event_type.sub_type` of socket events: 1 to 4 are Hubble's translation points. Opens and closes are Weft's own;
#: a client that does not know them shows an unknown point.
SOCK_OPEN: Final = 101
SOCK_CLOSE: Final = 102
SOCK_POINTS: Final = {
    1: "pre-xlate-fwd",
    2: "post-xlate-fwd",
    3: "pre-xlate-rev",
    4: "post-xlate-rev",
    SOCK_OPEN: "sock-open",
    SOCK_CLOSE: "sock-close",
}

AGENT_EVENTS: Final = {
    "unspecified": 0,
    "message": 1,
    "agent-started": 2,
    "endpoint-regenerate-success": 3,
    "endpoint-regenerate-failure": 4,
    "policy-updated": 5,
    "policy-deleted": 6,
    "endpoint-created": 7,
    "endpoint-deleted": 8,
    "ipcache-upserted": 9,
    "ipcache-deleted": 10,
}

MATCHES: Final = {0: "none", 1: "L3-Only", 2: "L3-L4", 3: "L4-Only", 4: "all", 5: "L3-Proto", 6: "Proto-Only"}

TRACE_REASONS: Final = {0: "unknown", 1: "new", 2: "established", 3: "reply", 4: "related"}

DROPS: Final = {
    0: "Success",
    2: "Invalid packet",
    3: "Interface",
    4: "Interface Decrypted",
    5: "LB, sock cgroup: No backend slot entry found",
    6: "LB, sock cgroup: No backend entry found",
    7: "LB, sock cgroup: Reverse entry update failed",
    8: "LB, sock cgroup: Reverse entry stale",
    9: "Fragmented packet",
    10: "Fragmented packet entry update failed",
    11: "Missed tail call to custom program",
    12: "Interface Decrypting",
    13: "Interface Encrypting",
    14: "LB: sock cgroup: Reverse entry delete succeeded",
    15: "MTU error message",
    130: "Invalid source mac",
    131: "Invalid destination mac",
    132: "Invalid source ip",
    133: "Policy denied",
    134: "Invalid packet",
    135: "CT: Truncated or invalid header",
    136: "Fragmentation needed",
    137: "CT: Unknown L4 protocol",
    138: "CT: Can't create entry from packet",
    139: "Unsupported L3 protocol",
    140: "Missed tail call",
    141: "Error writing to packet",
    142: "Unknown L4 protocol",
    143: "Unknown ICMPv4 code",
    144: "Unknown ICMPv4 type",
    145: "Unknown ICMPv6 code",
    146: "Unknown ICMPv6 type",
    147: "Error retrieving tunnel key",
    148: "Error retrieving tunnel options",
    149: "Invalid Geneve option",
    150: "Unknown L3 target address",
    151: "Stale or unroutable IP",
    152: "No matching local container found",
    153: "Error while correcting L3 checksum",
    154: "Error while correcting L4 checksum",
    155: "CT: Map insertion failed",
    156: "Invalid IPv6 extension header",
    157: "IP fragmentation not supported",
    158: "Service backend not found",
    160: "No tunnel/encapsulation endpoint (datapath BUG!)",
    161: "NAT 46/64 not enabled",
    162: "Reached EDT rate-limiting drop horizon",
    163: "Unknown connection tracking state",
    164: "Local host is unreachable",
    165: "No configuration available to perform policy decision",
    166: "Unsupported L2 protocol",
    167: "No mapping for NAT masquerade",
    168: "Unsupported protocol for NAT masquerade",
    169: "FIB lookup failed",
    170: "Encapsulation traffic is prohibited",
    171: "Invalid identity",
    172: "Unknown sender",
    173: "NAT not needed",
    174: "Is a ClusterIP",
    175: "First logical datagram fragment not found",
    176: "Forbidden ICMPv6 message",
    177: "Denied by LB src range check",
    178: "Socket lookup failed",
    179: "Socket assign failed",
    180: "Proxy redirection not supported for protocol",
    181: "Policy denied by denylist",
    182: "VLAN traffic disallowed by VLAN filter",
    183: "Incorrect VNI from VTEP",
    184: "Failed to update or lookup TC buffer",
    185: "No SID was found for the IP address",
    186: "SRv6 state was removed during tail call",
    187: "L3 translation from IPv4 to IPv6 failed (NAT46)",
    188: "L3 translation from IPv6 to IPv4 failed (NAT64)",
    189: "Authentication required",
    190: "No conntrack map found",
    191: "No nat map found",
    192: "Invalid ClusterID",
    193: "Unsupported packet protocol for DSR encapsulation",
    194: "No egress gateway found",
    195: "Traffic is unencrypted",
    196: "TTL exceeded",
    197: "No node ID found",
    198: "Rate limited",
    199: "IGMP handled",
    200: "IGMP subscribed",
    201: "Multicast handled",
    202: "Host datapath not ready",
    203: "Endpoint policy program not available",
    204: "No Egress IP configured",
    205: "Punt to proxy",
    206: "No device",
    207: "First logical datagram fragment not found from world",
    # Weft's own, from the other end of the byte
    250: "Became judged",
    251: "Not the proxy",
}

TCP_FLAGS: Final = (
    (0x02, "SYN"), (0x10, "ACK"), (0x04, "RST"), (0x01, "FIN"),
    (0x08, "PSH"), (0x20, "URG"), (0x40, "ECE"), (0x80, "CWR"),
)  # fmt: skip


def drop_reason(number: int) -> str:
    return DROPS.get(number) or f"{number}, 0"


def trace_point(number: int) -> str:
    return TRACE_POINTS.get(number) or str(number)


def match(number: int) -> str:
    return MATCHES.get(number, "unknown")


def identity(number: int) -> str:
    """`world`, or the number of an identity that is not reserved."""
    return RESERVED.get(number) or str(number)


def tcp_flags(flags: int) -> str:
    """In the order in which Hubble's summary has them: "SYN, ACK"."""
    return ", ".join(name for bit, name in TCP_FLAGS if flags & bit)


_UNREACHABLE4: Final = (
    "Net", "Host", "Protocol", "Port", "FragmentationNeeded", "SourceRoutingFailed", "NetUnknown", "HostUnknown",
    "SourceIsolated", "NetAdminProhibited", "HostAdminProhibited", "NetTOS", "HostTOS", "CommAdminProhibited",
    "HostPrecedence", "PrecedenceCutoff",
)  # fmt: skip
_EXCEEDED = "FragmentReassemblyTimeExceeded"

#: type -> (name, names of its codes; empty: the type has none)
ICMPV4: Final[dict[int, tuple[str, tuple[str, ...]]]] = {
    0: ("EchoReply", ()),
    3: ("DestinationUnreachable", _UNREACHABLE4),
    4: ("SourceQuench", ()),
    5: ("Redirect", ("Net", "Host", "TOS+Net", "TOS+Host")),
    8: ("EchoRequest", ()),
    9: ("RouterAdvertisement", ()),
    10: ("RouterSolicitation", ()),
    11: ("TimeExceeded", ("TTLExceeded", _EXCEEDED)),
    12: ("ParameterProblem", ("PointerIndicatesError", "MissingOption", "BadLength")),
    13: ("TimestampRequest", ()),
    14: ("TimestampReply", ()),
    15: ("InfoRequest", ()),
    16: ("InfoReply", ()),
    17: ("AddressMaskRequest", ()),
    18: ("AddressMaskReply", ()),
}
ICMPV6: Final[dict[int, tuple[str, tuple[str, ...]]]] = {
    1: (
        "DestinationUnreachable",
        (
            "NoRouteToDst", "AdminProhibited", "BeyondScopeOfSrc", "AddressUnreachable", "PortUnreachable",
            "SrcAddressFailedPolicy", "RejectRouteToDst",
        ),
    ),
    2: ("PacketTooBig", ()),
    3: ("TimeExceeded", ("HopLimitExceeded", _EXCEEDED)),
    4: ("ParameterProblem", ("ErroneousHeaderField", "UnrecognizedNextHeader", "UnrecognizedIPv6Option")),
    128: ("EchoRequest", ()),
    129: ("EchoReply", ()),
    133: ("RouterSolicitation", ()),
    134: ("RouterAdvertisement", ()),
    135: ("NeighborSolicitation", ()),
    136: ("NeighborAdvertisement", ()),
    137: ("Redirect", ()),
}  # fmt: skip


def icmp(family: int, kind: int, code: int) -> str:
    """`EchoRequest`, `DestinationUnreachable(Port)`, `42(0)`. `family` is 4 or 6."""
    name, codes = (ICMPV4 if family == 4 else ICMPV6).get(kind, ("", ()))
    if not name:
        return f"{kind}({code})"
    if code < len(codes):
        return f"{name}({codes[code]})"
    return name if not codes and code == 0 else f"{name}(Code: {code})"
