"""Carries a plan out, write by write, and keeps the account of what the kernel holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from weft.daemon.datapath.images import Rows
from weft.daemon.datapath.kernel import Kernel
from weft.daemon.datapath.plan import Attach, Bump, Detach, Fill, Publish, Put, Remove, Write


class Writer:
    """`have` is exact until a write fails; then it is read from the kernel before the next plan."""

    def __init__(self, kernel: Kernel, content: Callable[[bytes], Rows]) -> None:
        """`content`: the rows of a new table, by its digest."""
        self._kernel, self._content = kernel, content
        self.have = kernel.read()
        self.revision = 0  # config.revision as of the last bump
        self.written = 0  # rows, since the start
        self.failed = 0
        self.problems: dict[int, str] = {}  # interfaces that could not be attached to
        self.unsure = False

    def apply(self, writes: Iterable[Write]) -> None:
        """Raises OSError: the rest of the plan is not carried out, and what is done is safe as it stands."""
        try:
            for write in writes:
                self._apply(write)
        except OSError:
            self.failed += 1
            self.unsure = True
            raise

    def refresh(self) -> None:
        if self.unsure:
            self.have = self._kernel.read()
            self.unsure = False

    def forget_interfaces(self, wanted: Collection[int]) -> None:
        """What is not wanted any more is no problem any more."""
        self.problems = {ifindex: why for ifindex, why in self.problems.items() if ifindex in wanted}

    def bump(self) -> None:
        self.revision = self._kernel.bump()

    def _apply(self, write: Write) -> None:
        have = self.have
        match write:
            case Put(name, rows):
                self._kernel.put(name, rows)
                getattr(have, name).update(rows)
                self.written += len(rows)
            case Remove(name, keys):
                self._kernel.remove(name, keys)
                for key in keys:
                    getattr(have, name).pop(key, None)
                self.written += len(keys)
            case Fill(policy_id, digest):
                have.spares.discard(policy_id)
                self._kernel.fill(policy_id, rows := self._content(digest))
                have.tables[policy_id] = digest
                self.written += len(rows)
            case Publish(tables):
                self._kernel.publish({number: self._content(digest) for number, digest in tables.items()})
                have.tables.update(tables)
                self.written += sum(len(self._content(digest)) for digest in tables.values())
            case Attach(ifindex):
                self._attach(ifindex)
            case Detach(ifindex):
                self._kernel.detach(ifindex)
                have.attached.discard(ifindex)
                self.problems.pop(ifindex, None)
            case Bump():
                self.bump()

    def _attach(self, ifindex: int) -> None:
        """An interface that vanishes under our hands must not keep the others from their policy."""
        try:
            self._kernel.attach(ifindex)
        except OSError as error:
            self.failed += 1
            self.problems[ifindex] = str(error)
        else:
            self.have.attached.add(ifindex)
            self.problems.pop(ifindex, None)
