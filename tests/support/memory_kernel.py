"""A kernel that keeps its rows in memory, with the limits of the real maps, and fails where it is told to."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from weft.daemon.datapath import images
from weft.daemon.datapath.images import Rows
from weft.daemon.datapath.plan import MapName
from weft.daemon.datapath.rows import State


class MemoryKernel:
    """`log` holds every call in order. `fail_after`: so many writes work, then each raises (None: all work).
    `check` is called after each write: what must hold at every moment."""

    def __init__(self) -> None:
        self.maps: dict[str, dict[Any, Any]] = {"ipcache": {}, "endpoints": {}, "backends": {}, "slots": {}}
        self.tables: dict[int, dict[bytes, bytes]] = {}
        self.links: set[int] = set()
        self.vanished: set[int] = set()
        self.revision = 0
        self.snapshot = 0
        self.log: list[tuple[Any, ...]] = []
        self.fail_after: int | None = None

    def read(self) -> State:
        used = {row.policy_id for row in self.maps["endpoints"].values()}
        spares = {number for number, rows in self.tables.items() if not rows and number not in used}
        digests = {n: images.digest(rows) for n, rows in self.tables.items() if n not in spares}
        return State(
            ipcache=dict(self.maps["ipcache"]),
            tables=digests,
            spares=spares,
            endpoints=dict(self.maps["endpoints"]),
            attached=set(self.links),
            backends=dict(self.maps["backends"]),
            slots=dict(self.maps["slots"]),
        )

    def put(self, name: MapName, rows: Mapping[Any, Any]) -> None:
        for key, value in rows.items():
            self._write("put", name, key)
            self.maps[name][key] = value

    def remove(self, name: MapName, keys: Iterable[Any]) -> None:
        for key in keys:
            self._write("remove", name, key)
            self.maps[name].pop(key, None)

    def fill(self, policy_id: int, rows: Rows) -> None:
        assert not self.tables[policy_id], "a table is written once"
        for key, value in rows.items():
            self._write("fill", policy_id)
            self.tables[policy_id][key] = value

    def publish(self, contents: Mapping[int, Rows]) -> None:
        self._write("publish", *contents)
        for number, rows in contents.items():
            assert number not in self.tables, "a table's number is not used twice"
            self.tables[number] = dict(rows)

    def drop(self, policy_ids: Collection[int]) -> None:
        self._write("drop", *policy_ids)
        for number in policy_ids:
            del self.tables[number]

    def attach(self, ifindex: int) -> None:
        if ifindex in self.vanished:
            raise OSError(errno.ENODEV, "no such device")
        self._write("attach", ifindex)
        self.links.add(ifindex)

    def detach(self, ifindex: int) -> None:
        self._write("detach", ifindex)
        self.links.discard(ifindex)

    def bump(self) -> int:
        self._write("bump")
        self.revision += 1
        return self.revision

    def mark(self, snapshot: int) -> None:
        self.snapshot = snapshot

    def marked(self) -> int:
        return self.snapshot

    def _write(self, *what: Any) -> None:
        if self.fail_after is not None:
            if not self.fail_after:
                raise OSError(errno.ENOSPC, "no room")
            self.fail_after -= 1
        self.log.append(what)
        self.check()

    def check(self) -> None:
        """No row points to a table that is not there, no service to a backend that is not there, and nothing is
        let through for want of a row."""
        for row in self.maps["endpoints"].values():
            assert row.policy_id in self.tables, f"endpoint {row.ep_id} points to no table"
        for slot, row in self.maps["slots"].items():
            if slot.number:
                assert row.backend_id in self.maps["backends"], f"{slot} points to no backend"
            for number in range(1, row.backends + 1):
                assert slot._replace(number=number) in self.maps["slots"], f"{slot} promises a slot {number}"
