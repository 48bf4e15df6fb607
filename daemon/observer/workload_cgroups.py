"""Whose process it was, by its cgroup's id: the folder's inode. For what happens before a socket has an address.

Workloads have `<node's cgroup>/<namespace>_<pod>`, as `weft local` makes them. An id that is not known makes us
look again, at most once a second; looking costs a scan of one folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from weft.daemon.observer.directory import Owner

LOOK_INTERVAL: Final = 1.0  # seconds


class WorkloadCgroups:
    def __init__(
        self,
        root: Path | None,
        workload: Callable[[str], Owner | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`workload`: who "namespace/pod" is, on this node. `root` None: nobody is ever known."""
        self._root, self._workload, self._clock = root, workload, clock
        self._names: dict[int, str] = {}
        self._look_at = 0.0

    def __call__(self, cgroup: int) -> Owner | None:
        if cgroup not in self._names:
            self._look()
        name = self._names.get(cgroup)
        return self._workload(name) if name is not None else None

    def _look(self) -> None:
        now = self._clock()
        if self._root is None or now < self._look_at:
            return
        self._look_at = now + LOOK_INTERVAL
        try:
            with os.scandir(self._root) as entries:
                self._names = {
                    entry.inode(): entry.name.replace("_", "/", 1) for entry in entries if entry.is_dir()
                }
        except OSError:  # no cgroup yet, or no longer
            self._names = {}
