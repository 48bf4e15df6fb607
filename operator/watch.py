"""Follows folders of manifests: what is saved there comes into force, what vanishes is removed.

A notification only says "look"; `files` looks, `declared` decides, and the reconciler acts. New and changed objects
count at once. Missing ones count when they have been missing for SETTLE: editors truncate, remove and rename.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from watchfiles._rust_notify import RustNotify

from weft.operator.declared import Contents, Declarations, Notice, Plan, broken, read
from weft.operator.files import Folder, Sweep
from weft.operator.reconcile import Reconciler
from weft.policies.errors import Invalid, Where
from weft.policies.model import ObjectRef

log = logging.getLogger(__name__)

#: Seconds that something must be missing before it is removed: longer than a save in place takes.
SETTLE = 0.05
#: Milliseconds. Notifications are gathered until one STEP passes without any, at most DEBOUNCE.
STEP = 5
DEBOUNCE = 30
#: Milliseconds to wait for a notification before looking anyway: when all is settled, and when something is not.
IDLE_TIMEOUT = 2000
RACY_TIMEOUT = 110
UNSETTLED_TIMEOUT = 25
#: Seconds between looks where nothing notifies: the folder is missing, or the kernel has no watch left to give.
POLL_INTERVAL = 0.5


class Watch:
    """`start` takes in everything there is; `run` follows one folder until it is cancelled."""

    def __init__(self, roots: Sequence[Path], reconciler: Reconciler, default_namespace: str) -> None:
        self._folders = [Folder(root) for root in _outermost(roots)]
        self._reconciler = reconciler
        self._namespace = default_namespace
        owned = {stored.ref: stored.file for stored in reconciler.store if stored.file}
        self._declarations = Declarations(owned)
        reconciler.declared = self._declarations.declared
        self._unfinished: dict[str, tuple[float, Contents | None]] = {}  # since when; None: the file is gone
        self._refused: dict[ObjectRef, Notice] = {}
        self._stopping = threading.Event()
        self._waiters = ThreadPoolExecutor(max(1, len(self._folders)), "weft-watch")  # one thread waits per folder
        for folder in self._folders:
            folder.expect({file for file in owned.values() if _inside(file, folder.root)})

    def start(self) -> None:
        for folder in self._folders:
            self._take(folder, *self._look(folder), settle=0.0)

    async def run(self) -> None:
        try:
            # With no folder there is nothing to follow, and still no reason to end.
            await asyncio.gather(*(self._follow(folder) for folder in self._folders), asyncio.Event().wait())
        finally:
            self._stopping.set()
            self._waiters.shutdown(wait=False)

    def notices(self) -> list[Notice]:
        found = [notice for folder in self._folders for notice in folder.notices]
        found += [
            Notice(Where(file), "is not watched any more; what it declared stays in force", True)
            for file in sorted(self._declarations.files())
            if not any(_inside(file, folder.root) for folder in self._folders)
        ]
        return found + self._declarations.notices() + list(self._refused.values())

    async def _follow(self, folder: Folder) -> None:
        while True:
            identity = folder.identity()
            try:
                notify = RustNotify([str(folder.root)], False, False, 0, True, True) if identity else None
            except (OSError, RuntimeError) as error:
                log.warning("%s: no notifications, looking every %s s: %s", folder.root, POLL_INTERVAL, error)
                notify = None
            if notify is None:
                await self._sweep(folder)
                await asyncio.sleep(POLL_INTERVAL)
                continue
            try:
                await self._heed(folder, notify, identity)
            finally:
                notify.close()

    async def _heed(self, folder: Folder, notify: RustNotify, identity: tuple[int, int] | None) -> None:
        """Until the folder is another one, or none. The watch stands before the first look: nothing is missed."""
        loop = asyncio.get_running_loop()
        timeout = await self._sweep(folder)
        while folder.identity() == identity:
            await loop.run_in_executor(self._waiters, notify.watch, DEBOUNCE, STEP, timeout, self._stopping)
            timeout = await self._sweep(folder)

    async def _sweep(self, folder: Folder) -> int:
        """Milliseconds until the next look, at the latest."""
        sweep, contents = await asyncio.to_thread(self._look, folder)
        self._take(folder, sweep, contents, settle=SETTLE)
        if self._unfinished:
            return UNSETTLED_TIMEOUT
        return RACY_TIMEOUT if sweep.racy else IDLE_TIMEOUT

    def _look(self, folder: Folder) -> tuple[Sweep, dict[str, Contents]]:
        """Reading and parsing, away from the event loop."""
        sweep = folder.sweep()
        contents = {
            path: broken(text.where, text.reason)
            if isinstance(text, Invalid)
            else read(text, path, self._namespace)
            for path, text in sweep.changed.items()
        }
        return sweep, contents

    def _take(self, folder: Folder, sweep: Sweep, contents: dict[str, Contents], settle: float) -> None:
        now = time.monotonic()
        for path, found in contents.items():
            plan = self._declarations.declare(path, found, finished=False)
            self._unfinished.pop(path, None)
            if plan.withheld:
                self._unfinished[path] = now, found
            self._act(plan)
        for path in sweep.gone:
            self._unfinished.setdefault(path, (now, None))
        self._finish(folder, now - settle)

    def _finish(self, folder: Folder, deadline: float) -> None:
        """Takes as final what has not moved since `deadline`; when the folder itself is gone, nothing of it."""
        there = folder.identity() is not None
        for path, (since, found) in list(self._unfinished.items()):
            if not _inside(path, folder.root) or (there and since > deadline):
                continue
            del self._unfinished[path]
            if there and found is None:
                self._act(self._declarations.withdraw(path))
            elif there and found is not None:
                self._act(self._declarations.declare(path, found))

    def _act(self, plan: Plan) -> None:
        counts: dict[str, int] = {}
        for admitted in plan.put:
            self._refused.pop(admitted.ref, None)
            try:
                what = self._reconciler.commit(self._reconciler.prepare(admitted, of_file=True))
            except Invalid as error:
                where = Where(admitted.file, admitted.line, str(admitted.ref), error.where.path)
                self._refused[admitted.ref] = Notice(where, error.reason)
                what = "refused"
            counts[what] = counts.get(what, 0) + 1
            if what != "unchanged" and counts[what] <= 5:
                log.info("%s %s (%s:%d)", admitted.ref, what, admitted.file, admitted.line)
        for ref in plan.remove:
            self._refused.pop(ref, None)
            self._reconciler.remove(ref)
            log.info("%s removed: no file declares it", ref)


def _inside(file: str, root: Path) -> bool:
    return Path(file).is_relative_to(root)


def _outermost(roots: Sequence[Path]) -> list[Path]:
    """A folder inside another that is watched is watched already."""
    absolute = sorted({root.absolute() for root in roots})
    return [
        root for root in absolute if not any(root != other and root.is_relative_to(other) for other in absolute)
    ]
