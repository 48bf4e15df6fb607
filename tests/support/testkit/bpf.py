"""The real data plane for tests: loaded once a session into a pin directory and a network namespace of its own.

`datapath` is what a test takes: maps empty, revision at 1, ring drained. tests/bpf/conftest.py names the fixtures.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from testkit.netns import Namespace
from weft.bpf import layout, testrun
from weft.bpf import sys as bpf
from weft.bpf.loader import load
from weft.bpf.maps import Map, Maps
from weft.bpf.policytables import endpoint_flags
from weft.bpf.ringbuf import Ring
from weft.bpf.testrun import Context, Outcome
from weft.policies.table import Table

#: Interfaces that endpoints may sit behind: `lo` is 1, these are ends of veth pairs.
PAIRS = 4


@dataclass(slots=True)
class Datapath:
    """`interfaces`: indexes that exist in `namespace`, for endpoints. `programs`: descriptors by name."""

    pin_dir: Path
    namespace: Namespace
    interfaces: Sequence[int]
    maps: Maps
    programs: dict[str, int]
    ring: Ring

    def run(self, program: str, packet: bytes, ifindex: int = 1, mark: int = 0, came_in: int = 0) -> Outcome:
        """A frame through `weft_from_workload` or `weft_to_workload`. `came_in`: the interface by which the node
        got it; 0: the node itself sends it."""
        context = Context(ifindex=ifindex, mark=mark, ingress_ifindex=came_in)
        return self.namespace.call(testrun.run, self.programs[program], packet, context)

    def run_all(self, packets: Sequence[tuple[str, bytes, int]]) -> list[Outcome]:
        """(program, frame, ifindex) each: one trip to the namespace's thread for all."""

        def all_of_them() -> list[Outcome]:
            return [testrun.run(self.programs[name], data, Context(ifindex=at)) for name, data, at in packets]

        return self.namespace.call(all_of_them)

    def events(self) -> list[layout.Event]:
        """Records since the last call."""
        found: list[layout.Event] = []
        while records := self.ring.drain():
            found += map(layout.Event.from_buffer_copy, records)
        return found

    def configure(self, **fields: int) -> layout.Config:
        """Fields of layout.Config; the rest stays."""
        config = self.maps.config.get(0)
        assert config is not None
        for name, value in fields.items():
            setattr(config, name, value)
        self.maps.config.put(0, config)
        return config

    def bump(self) -> int:
        """A new policy revision: every connection is judged anew."""
        config = self.maps.config.get(0)
        assert config is not None
        return int(self.configure(revision=config.revision + 1).revision)

    def identify(self, prefix: str, identity: int) -> None:
        """`prefix`: an address, or a network."""
        self.maps.ipcache.put(ipcache_key(ip_network(prefix)), layout.IpcacheValue(identity))

    def endpoint(
        self, ifindex: int, ep_id: int, identity: int, table: Table, ipv4: str = "", ipv6: str = ""
    ) -> layout.Endpoint:
        """Publishes the table under the endpoint's id, then the endpoint, as the daemon does."""
        self.maps.policies.publish(ep_id, table.entries)
        row = layout.Endpoint(
            ep_id=ep_id,
            identity=identity,
            policy_id=ep_id,
            flags=endpoint_flags(table),
            ipv4=_field(ipv4, 4),
            ipv6=_field(ipv6, 16),
        )
        self.maps.endpoints.put(ifindex, row)
        return row

    def stat(self, which: layout.Stat) -> int:
        return self.maps.stats.get(which) or 0

    def clear(self) -> None:
        maps = self.maps
        found: Sequence[Map[Any, Any]] = (
            *(maps.endpoints, maps.ipcache, maps.ct, maps.fragments, maps.services, maps.backends),
            *(maps.reverse, maps.affinity, maps.counters, maps.rule_stats, maps.stats),
        )
        for each in found:
            each.clear()
        maps.policies.clear()
        maps.config.put(0, layout.Config(revision=1, trace_interval_ms=5000))
        maps.proxy.put(0, layout.Proxy())
        self.events()


def ipcache_key(network: IPv4Network | IPv6Network) -> layout.IpcacheKey:
    packed = network.network_address.packed
    return layout.IpcacheKey(32 + network.prefixlen, network.version, _array(packed, 16))


def _field(address: str, size: int) -> ctypes.Array[ctypes.c_uint8]:
    return _array(ip_address(address).packed if address else b"", size)


def _array(packed: bytes, size: int) -> ctypes.Array[ctypes.c_uint8]:
    return (ctypes.c_uint8 * size)(*packed.ljust(size, b"\0"))


@contextlib.contextmanager
def private_pins(name: str) -> Iterator[Path]:
    """A path for a pin directory that no other run uses; what was made there is removed with all that is in it."""
    pin_dir = Path(f"/sys/fs/bpf/weft-test-{os.getpid()}") / name
    try:
        yield pin_dir
    finally:
        shutil.rmtree(pin_dir, ignore_errors=True)
        with contextlib.suppress(OSError):
            pin_dir.parent.rmdir()  # unless another test is in there


@pytest.fixture(scope="session")
def loaded_datapath() -> Iterator[Datapath]:
    with private_pins("node") as pin_dir, contextlib.ExitStack() as stack:
        load.run(pin_dir)
        maps = stack.enter_context(Maps.open(pin_dir))
        namespace = Namespace()
        stack.callback(namespace.close)
        programs = {name: bpf.obj_get(pin_dir / f"prog_{name}") for name in layout.PROGRAMS}
        for fd in programs.values():
            stack.callback(os.close, fd)
        interfaces = namespace.veths(PAIRS)
        yield Datapath(pin_dir, namespace, interfaces, maps, programs, stack.enter_context(Ring(maps.events)))


@pytest.fixture
def datapath(loaded_datapath: Datapath) -> Datapath:
    loaded_datapath.clear()
    return loaded_datapath
