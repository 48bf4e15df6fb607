"""lib/layout.h in Python: the structs that user space and the programs share, by ctypes, and the maps' names.

`tests/bpf/test_layout.py` compiles the header and compares every size and offset with this file.
"""

from __future__ import annotations

import ctypes
import enum
from dataclasses import dataclass
from typing import Final

LAYOUT: Final = 1

_u8, _u16, _u32, _u64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64
_be16 = ctypes.c_uint16  # network byte order: socket.htons() before it goes in
_addr = _u8 * 16


class Family(enum.IntEnum):
    IPV4 = 4
    IPV6 = 6


class EventType(enum.IntEnum):
    DROP = 1
    TRACE = 4
    VERDICT = 5
    SOCK = 7


class CtState(enum.IntEnum):
    NEW = 0
    ESTABLISHED = 1
    REPLY = 2
    RELATED = 3


class SockEvent(enum.IntEnum):
    OPEN = 1
    CLOSE = 2
    XLATE_FWD = 3
    XLATE_REV = 4


class Reason(enum.IntEnum):
    OK = 0
    SOURCE_IP = 132
    POLICY = 133
    INVALID = 134
    CT_TRUNCATED = 135
    L4_UNKNOWN = 137
    L3_UNKNOWN = 139
    CT_FULL = 155
    FRAGMENT = 157
    NO_BACKEND = 158
    NO_PROXY = 178
    POLICY_DENY = 181
    NO_POLICY = 203
    BECAME_JUDGED = 250
    NOT_THE_PROXY = 251


class EndpointFlag(enum.IntFlag):
    ENFORCE_INGRESS = 1
    ENFORCE_EGRESS = 2
    HAS_INGRESS = 4
    HAS_EGRESS = 8


class PolicyFlag(enum.IntFlag):
    BYPASS = 1


class CtFlag(enum.IntFlag):
    SEEN_REPLY = 1
    FIN_IN = 2
    FIN_OUT = 4
    RST = 8
    MIDSTREAM = 16
    OUTSIDE = 32
    TO_PROXY = 64
    FROM_PROXY = 128


class ServiceFlag(enum.IntFlag):
    PROXY = 1
    BACKEND = 2


class ConfigFlag(enum.IntFlag):
    AUDIT = 1
    PROXY = 2


class EventFlag(enum.IntFlag):
    AUDIT = 1
    MIDSTREAM = 2


class Stat(enum.IntEnum):
    EVENT_LOST = 0
    CT_INSERT_FAILED = 1
    CT_CREATED = 2
    REVERSE_FAILED = 3
    NO_ENDPOINT = 4
    COUNTER_FAILED = 5
    BECAME_JUDGED = 6
    PROXY_RESET = 7


STATS: Final = 16


class IpcacheKey(ctypes.Structure):
    _fields_ = [("prefixlen", _u32), ("family", _u32), ("addr", _addr)]


class IpcacheValue(ctypes.Structure):
    _fields_ = [("identity", _u32), ("former", _u32)]


class Endpoint(ctypes.Structure):
    _fields_ = [
        ("ep_id", _u32),
        ("identity", _u32),
        ("policy_id", _u32),
        ("flags", _u32),
        ("ipv4", _u8 * 4),
        ("ipv6", _addr),
        ("pad", _u32),
    ]


class PolicyKey(ctypes.Structure):
    _fields_ = [
        ("prefixlen", _u32),
        ("identity", _u32),
        ("direction", _u8),
        ("protocol", _u8),
        ("port", _be16),
    ]


class PolicyValue(ctypes.Structure):
    _fields_ = [("verdict", _u8), ("match", _u8), ("flags", _u8), ("pad", _u8), ("cookie", _u32)]


class CtKey(ctypes.Structure):
    _fields_ = [
        ("ep_id", _u32),
        ("family", _u8),
        ("protocol", _u8),
        ("local_port", _be16),
        ("remote_port", _be16),
        ("icmp_type", _u8),
        ("icmp_origin", _u8),
        ("local", _addr),
        ("remote", _addr),
    ]


class CtValue(ctypes.Structure):
    _fields_ = [
        ("created_ns", _u64),
        ("seen_ns", _u64),
        ("packets", _u64 * 2),
        ("bytes", _u64 * 2),
        ("revision", _u64),
        ("reported_ns", _u64 * 2),
        ("remote_identity", _u32),
        ("cookie", _u32),
        ("origin", _u8),
        ("state", _u8),
        ("verdict", _u8),
        ("match", _u8),
        ("tcp_flags", _u8 * 2),
        ("icmp_type", _u16),
    ]


class FragmentKey(ctypes.Structure):
    _fields_ = [
        ("ep_id", _u32),
        ("id", _u32),
        ("family", _u8),
        ("protocol", _u8),
        ("direction", _u8),
        ("pad", _u8),
        ("src", _addr),
        ("dst", _addr),
    ]


class FragmentValue(ctypes.Structure):
    _fields_ = [
        ("src_port", _be16),
        ("dst_port", _be16),
        ("protocol", _u8),
        ("icmp_type", _u8),
        ("icmp_code", _u8),
        ("pad", _u8),
    ]


class Scratch(ctypes.Structure):
    _fields_ = [("bytes", _u8 * 256)]


class ServiceKey(ctypes.Structure):
    _fields_ = [
        ("family", _u32),
        ("addr", _addr),
        ("port", _be16),
        ("protocol", _u8),
        ("pad", _u8),
        ("slot", _u32),
    ]


class ServiceValue(ctypes.Structure):
    _fields_ = [("backend_id", _u32), ("count", _u32), ("service_id", _u32), ("flags", _u32)]


class Backend(ctypes.Structure):
    _fields_ = [("family", _u32), ("addr", _addr), ("port", _be16), ("protocol", _u8), ("flags", _u8)]


class ReverseKey(ctypes.Structure):
    _fields_ = [("cookie", _u64), ("family", _u32), ("addr", _addr), ("port", _be16), ("pad", _u16)]


class ReverseValue(ctypes.Structure):
    _fields_ = [("addr", _addr), ("port", _be16), ("pad", _u16), ("service_id", _u32)]


class AffinityKey(ctypes.Structure):
    _fields_ = [("cookie", _u64), ("family", _u32), ("addr", _addr), ("port", _be16), ("pad", _u16)]


class AffinityValue(ctypes.Structure):
    _fields_ = [("backend_id", _u32), ("slot", _u32)]


class CounterKey(ctypes.Structure):
    _fields_ = [("ep_id", _u32), ("direction", _u8), ("reason", _u8), ("pad", _u16)]


class CounterValue(ctypes.Structure):
    _fields_ = [("packets", _u64), ("bytes", _u64)]


class RuleStatKey(ctypes.Structure):
    _fields_ = [("ep_id", _u32), ("cookie", _u32), ("direction", _u32), ("verdict", _u32)]


class Config(ctypes.Structure):
    _fields_ = [
        ("revision", _u64),
        ("flags", _u32),
        ("trace_interval_ms", _u32),
        ("proxy_mark", _u32),
        ("snapshot", _u32),
    ]


class Proxy(ctypes.Structure):
    _fields_ = [("host_netns", _u64), ("ifindex", _u32), ("port", _u16), ("first_port", _u16)]


class Event(ctypes.Structure):
    _fields_ = [
        ("time_ns", _u64),
        ("type", _u8),
        ("sub_type", _u8),
        ("reason", _u8),
        ("direction", _u8),
        ("family", _u8),
        ("protocol", _u8),
        ("tcp_flags", _u8),
        ("icmp_code", _u8),
        ("src_port", _be16),
        ("dst_port", _be16),
        ("match", _u8),
        ("verdict", _u8),
        ("ct_state", _u8),
        ("flags", _u8),
        ("ep_id", _u32),
        ("src_identity", _u32),
        ("dst_identity", _u32),
        ("cookie", _u32),
        ("ifindex", _u32),
        ("length", _u32),
        ("src", _addr),
        ("dst", _addr),
        ("socket_cookie", _u64),
        ("cgroup_id", _u64),
        ("bytes_sent", _u64),
        ("bytes_received", _u64),
        ("srtt_us", _u32),
        ("retransmits", _u32),
        ("src_mac", _u8 * 6),
        ("dst_mac", _u8 * 6),
        ("pad", _u32),
    ]


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A pinned map: `name` without the layout suffix, its types, and how many entries it holds."""

    name: str
    kind: str  # the kernel's word: hash, lpm_trie, ...
    key: type[ctypes.Structure] | type[ctypes.c_uint32]
    value: type[ctypes.Structure] | type[ctypes.c_uint32] | type[ctypes.c_uint64]
    max_entries: int

    @property
    def pin(self) -> str:
        return f"{self.name}_v{LAYOUT}"


IPCACHE = MapSpec("ipcache", "lpm_trie", IpcacheKey, IpcacheValue, 512_000)
ENDPOINTS = MapSpec("endpoints", "hash", ctypes.c_uint32, Endpoint, 4096)
#: policy_id -> a map of its own (kind lpm_trie, PolicyKey -> PolicyValue), swapped whole
POLICIES = MapSpec("policies", "hash_of_maps", ctypes.c_uint32, ctypes.c_uint32, 8192)
CT = MapSpec("ct", "lru_hash", CtKey, CtValue, 262_144)
FRAGMENTS = MapSpec("fragments", "lru_hash", FragmentKey, FragmentValue, 8192)
SCRATCH = MapSpec("scratch", "percpu_array", ctypes.c_uint32, Scratch, 1)
SERVICES = MapSpec("services", "hash", ServiceKey, ServiceValue, 131_072)
BACKENDS = MapSpec("backends", "hash", ctypes.c_uint32, Backend, 65_536)
REVERSE = MapSpec("reverse", "lru_hash", ReverseKey, ReverseValue, 131_072)
AFFINITY = MapSpec("affinity", "lru_hash", AffinityKey, AffinityValue, 65_536)
COUNTERS = MapSpec("counters", "percpu_hash", CounterKey, CounterValue, 65_536)
RULE_STATS = MapSpec("rule_stats", "lru_percpu_hash", RuleStatKey, CounterValue, 65_536)
CONFIG = MapSpec("config", "array", ctypes.c_uint32, Config, 1)
STATS_MAP = MapSpec("stats", "percpu_array", ctypes.c_uint32, ctypes.c_uint64, STATS)
PROXY = MapSpec("proxy", "array", ctypes.c_uint32, Proxy, 1)
EVENTS = MapSpec("events", "ringbuf", ctypes.c_uint32, ctypes.c_uint32, 1 << 22)  # bytes

MAPS: Final = (
    IPCACHE, ENDPOINTS, POLICIES, CT, FRAGMENTS, SCRATCH, SERVICES, BACKENDS, REVERSE, AFFINITY, COUNTERS,
    RULE_STATS, CONFIG, PROXY, STATS_MAP, EVENTS,
)  # fmt: skip

#: What the tc programs answer. Pass is TC_ACT_UNSPEC (TCX_NEXT): other programs on the device have their say too.
TC_PASS: Final = 0xFFFFFFFF
TC_DROP: Final = 2
TC_REDIRECT: Final = 7

#: The programs and their pins: name in the C source -> (kind, attach point)
PROGRAMS: Final = {
    "weft_from_workload": ("sched_cls", "tc ingress of the node's side of a workload's veth"),
    "weft_to_workload": ("sched_cls", "tc egress of the node's side of a workload's veth"),
    "weft_to_proxy": ("sched_cls", "tc ingress of weft-p0"),
    "weft_connect4": ("cgroup_sock_addr", "cgroup_inet4_connect"),
    "weft_connect6": ("cgroup_sock_addr", "cgroup_inet6_connect"),
    "weft_sendmsg4": ("cgroup_sock_addr", "cgroup_udp4_sendmsg"),
    "weft_sendmsg6": ("cgroup_sock_addr", "cgroup_udp6_sendmsg"),
    "weft_recvmsg4": ("cgroup_sock_addr", "cgroup_udp4_recvmsg"),
    "weft_recvmsg6": ("cgroup_sock_addr", "cgroup_udp6_recvmsg"),
    "weft_getpeername4": ("cgroup_sock_addr", "cgroup_inet4_getpeername"),
    "weft_getpeername6": ("cgroup_sock_addr", "cgroup_inet6_getpeername"),
    "weft_sockops": ("sock_ops", "cgroup_sock_ops"),
}
