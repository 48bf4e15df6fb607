"""The pinned programs, and where they are attached: to interfaces of workloads, and to the node's cgroup.

Everything hangs on pinned links, so it outlives this process. A link is replaced in place, so an upgrade has no
moment without a program. On kernels without tcx links (before 6.6) the programs hang on a clsact qdisc instead.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from weft.bpf import layout, links
from weft.bpf import sys as bpf
from weft.bpf.abi import Attach

#: program -> (is at tc ingress of the node's side, name of its link's pin without the interface's index)
_TC: Final = {"weft_from_workload": (True, "link_from_"), "weft_to_workload": (False, "link_to_")}
_PROXY, _PROXY_PIN = "weft_to_proxy", "link_proxy_"
_CGROUP: Final = {
    name: Attach[where.upper()] for name, (_, where) in layout.PROGRAMS.items() if where.startswith("cgroup_")
}


class Programs:
    def __init__(self, pin_dir: Path, *, tcx: bool | None = None) -> None:
        """`tcx` None: whatever this kernel can."""
        self._pin_dir = pin_dir
        self._fds: dict[str, int] = {}
        self._filters: set[int] = set()  # interfaces attached to without links
        self.mode = "tcx" if (links.tcx_supported() if tcx is None else tcx) else "clsact"

    def attach(self, ifindex: int) -> None:
        """Both programs, or those that are there already made to run the pinned ones. Raises OSError."""
        for name, (ingress, pin) in _TC.items():
            if self.mode == "tcx":
                links.attach_tcx(self._prog(name), ifindex, ingress, self._pin_dir / f"{pin}{ifindex}")
            else:
                self._attach_filter(name, ifindex, ingress)
        if self.mode == "clsact":
            self._filters.add(ifindex)

    def detach(self, ifindex: int) -> None:
        for _, pin in _TC.values():
            links.detach(self._pin_dir / f"{pin}{ifindex}")
        if ifindex in self._filters:
            from weft.daemon import netlink

            netlink.detach_clsact(ifindex)
            self._filters.discard(ifindex)

    def attach_proxy(self, ifindex: int) -> None:
        """Where packets for the proxy come in again. Raises OSError."""
        if self.mode != "tcx":
            self._attach_filter(_PROXY, ifindex, True)
            return
        for pin in self._pin_dir.glob(f"{_PROXY_PIN}*"):
            if pin.name != f"{_PROXY_PIN}{ifindex}":  # of a device that went
                links.detach(pin)
        links.attach_tcx(self._prog(_PROXY), ifindex, True, self._pin_dir / f"{_PROXY_PIN}{ifindex}")

    def detach_proxy(self) -> None:
        for pin in self._pin_dir.glob(f"{_PROXY_PIN}*"):
            links.detach(pin)

    def proxy_attached(self, ifindex: int) -> bool:
        return self.mode != "tcx" or links.attached(self._pin_dir / f"{_PROXY_PIN}{ifindex}") is not None

    def attached(self) -> set[int]:
        """Interfaces that carry both programs, among them such as are gone but whose pins are left."""
        inward, outward = (self._pinned(pin) for _, pin in _TC.values())
        return inward & outward | self._filters

    def lost(self, among: Collection[int]) -> set[int]:
        """Interfaces that carry both programs no more: somebody has unpinned them, or the interface went, and
        another came by its number."""
        if self.mode != "tcx":
            return set()
        pins = [pin for _, pin in _TC.values()]
        return {
            index for index in among if not all(links.attached(self._pin_dir / f"{pin}{index}") for pin in pins)
        }

    def renew(self, links_here: Collection[int]) -> int:
        """Makes every link run the pinned programs, finishes what was half attached, and lets go of what hung on
        interfaces that are gone. Returns how many interfaces carry our programs."""
        inward, outward = (self._pinned(pin) for _, pin in _TC.values())
        for ifindex in inward | outward:
            if ifindex in links_here:
                self.attach(ifindex)
            else:
                self.detach(ifindex)
        return len(self.attached())

    def attach_cgroup(self, directory: Path) -> None:
        """The balancing and socket programs, for every socket made by what runs below `directory`."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name, where in _CGROUP.items():
                links.attach_cgroup(
                    self._prog(name), fd, where, self._pin_dir / f"link_{name.removeprefix('weft_')}"
                )
        finally:
            os.close(fd)

    def cgroup_lost(self) -> bool:
        """Some of the balancing and socket programs hang nowhere any more."""
        pins = (self._pin_dir / f"link_{name.removeprefix('weft_')}" for name in _CGROUP)
        return not all(map(links.attached, pins))

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def _prog(self, name: str) -> int:
        if name not in self._fds:
            self._fds[name] = bpf.obj_get(self._pin_dir / f"prog_{name}")
        return self._fds[name]

    def _attach_filter(self, name: str, ifindex: int, ingress: bool) -> None:
        from weft.daemon import netlink

        try:
            netlink.attach_clsact(ifindex, self._prog(name), name, ingress=ingress)
        except netlink.NetlinkError as error:
            raise OSError(error.code, f"clsact filter {name} at interface {ifindex}: {error}") from None

    def _pinned(self, prefix: str) -> set[int]:
        found = (path.name.removeprefix(prefix) for path in self._pin_dir.glob(f"{prefix}*"))
        return {int(index) for index in found if index.isdigit()}


def remove(pin_dir: Path) -> None:
    """Detaches and unpins everything of this node. What is gone already is not missed. Without tcx it is to be
    called in the node's network namespace, where the filters are."""
    if not links.tcx_supported():
        from weft.daemon import netlink

        netlink.detach_clsact_everywhere()
    if not pin_dir.is_dir():
        return
    for path in sorted(pin_dir.glob("link_*")):
        links.detach(path)
    for path in sorted(pin_dir.iterdir()):
        path.unlink(missing_ok=True)
    pin_dir.rmdir()
