"""Puts one process where its pod is: cgroup, network, mounts, host name; then becomes its command.

Run by path with `python -I -S launch.py SPEC.json` (and imported by `exec`), so it uses the standard library
only and starts in some 20 ms. The order is the rule of this file: the cgroup comes first, for the programs on
it must see the command's first instruction; capabilities go last, for everything before needs them.

SPEC.json: argv, env, cwd, cgroup, netns, hostname ("": the machine's own), files (path in the pod -> file that
stands there; null: the machine's mounts), capabilities (those that stay; null: all). A second argument is the pid
of a process whose namespaces to join in place of making any.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_SLAVE = 1, 2, 4, 8, 4096, 16384, 1 << 19
PR_CAPBSET_DROP = 24
COMMAND_NOT_FOUND, CANNOT_RUN, CANNOT_ENTER = 127, 126, 125  # exit codes, as a shell's and `nsenter`'s

#: What Docker and containerd leave to a container.
CAPABILITIES = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8,
    "NET_BIND_SERVICE": 10, "NET_RAW": 13, "SYS_CHROOT": 18, "MKNOD": 27, "AUDIT_WRITE": 29, "SETFCAP": 31,
}  # fmt: skip
#: What a container may ask for besides (securityContext.capabilities.add).
MORE_CAPABILITIES = {"NET_ADMIN": 12, "IPC_LOCK": 14, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYS_NICE": 23}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int) -> None:
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None)
    _check(result, f"mount {source} on {target}")


def join_cgroup(cgroup: str) -> None:
    with open(f"{cgroup}/cgroup.procs", "w") as procs:
        procs.write("0")


def join(namespace: str, kind: int) -> None:
    handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(handle, kind), f"setns {namespace}")
    finally:
        os.close(handle)


def own_mounts(files: dict[str, str]) -> None:
    """A mount namespace that sees the machine's mounts come and go, with the pod's files and its network's /sys."""
    _check(_libc.unshare(CLONE_NEWNS), "unshare mounts")
    mount("none", "/", "none", MS_SLAVE | MS_REC)
    for target, source in files.items():
        if os.path.exists(target):  # what the machine has no file for, its programs do not read
            mount(source, os.path.realpath(target), "none", MS_BIND)
    try:
        mount("sysfs", "/sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EBUSY):  # inside a container that masks /sys: it stays as it is
            raise


def own_hostname(name: str) -> None:
    _check(_libc.unshare(CLONE_NEWUTS), "unshare host name")
    _check(_libc.sethostname(name.encode(), len(name.encode())), "sethostname")


def drop_capabilities(keep: list[int] | None) -> None:
    """From the bounding set, so that the command, root or not, never has them."""
    if keep is None:
        return
    for number in range(64):
        if number not in keep and _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            return  # EINVAL: past the last capability of this kernel


def become(spec: dict[str, Any]) -> None:
    """Does not return."""
    # What Python ignores, the command would inherit as ignored.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    drop_capabilities(spec["capabilities"])
    for name in os.listdir("/proc/self/fd"):
        # Nothing of ours is the command's; and a pipe that closes here tells our parent that it has begun.
        if int(name) > 2:
            try:  # noqa: SIM105  (contextlib would be another import at each start)
                os.set_inheritable(int(name), False)
            except OSError:
                pass  # the listing's own
    argv: list[str] = spec["argv"]
    try:
        os.chdir(spec["cwd"])
        os.execvpe(argv[0], argv, spec["env"])
    except OSError as error:
        print(f"weft: {argv[0]}: {error.strerror} (in {spec['cwd']})", file=sys.stderr, flush=True)
        os._exit(COMMAND_NOT_FOUND if error.errno == errno.ENOENT else CANNOT_RUN)


def start(spec: dict[str, Any]) -> None:
    """The first way in: makes mounts and host name. Does not return."""
    join_cgroup(spec["cgroup"])
    if spec["netns"]:
        join(spec["netns"], CLONE_NEWNET)
    if spec["files"] is not None:
        own_mounts(spec["files"])
    if spec["hostname"]:
        own_hostname(spec["hostname"])
    become(spec)


def enter(spec: dict[str, Any], pid: int) -> None:
    """The way into a pod that runs: joins what process `pid` has. Does not return."""
    join_cgroup(spec["cgroup"])
    join(f"/proc/{pid}/ns/uts", CLONE_NEWUTS)
    join(f"/proc/{pid}/ns/net", CLONE_NEWNET)
    join(f"/proc/{pid}/ns/mnt", CLONE_NEWNS)
    become(spec)


def main() -> None:
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    try:
        if len(sys.argv) > 2:
            enter(spec, int(sys.argv[2]))
        start(spec)
    except OSError as error:
        print(f"weft: cannot enter the pod: {error}", file=sys.stderr, flush=True)
        os._exit(CANNOT_ENTER)


if __name__ == "__main__":
    main()
