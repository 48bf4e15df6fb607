"""Somebody who wants past the policy, and accidents that would help him, on a live node.

a (300) ---> b (301), with raw sockets where that helps; `outside` is a host beyond the node's uplink. What b hears
is counted by b itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

import pytest

from daemon_lab import NODE_IP6, Lab, allow, run, wait_for
from weft.daemon import node
from weft.policies.labels import Labels
from weft.policies.model import Action, CidrPeer, Direction, ObjectRef, Origin, Protocol
from weft.policies.snapshot import (
    AddressItem,
    BackendItem,
    IdentityItem,
    PolicyItem,
    ResolvedPeers,
    ResolvedRule,
    ResolvedSpec,
    ServiceItem,
    ServicePortItem,
)

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

A, B = 300, 301
#: How often the daemon is killed in the middle of changes; 20 times were tried, and take a minute.
KILLS = int(os.environ.get("WEFT_KILLS", "10"))
OUTSIDE4, OUTSIDE6 = "203.0.113.9", "2001:db8::9"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab("wt-adversary", tmp_path_factory.mktemp("adversary")) as lab:
        lab.add_pod("a", A)
        lab.add_pod("b", B)
        lab.start_daemon()
        lab.wait_ready("a", "b")
        lab.serve("b", 80)
        yield lab
        print(lab.log.read_text()[-20000:])


@pytest.fixture(autouse=True)
def as_it_was(lab: Lab) -> Iterator[None]:
    before = lab.operator.snapshot
    yield
    cluster, own = before.cluster, before.own
    lab.operator.wait(
        lab.operator.publish(
            policies={}, identities=cluster.identities, addresses=cluster.addresses, endpoints=own.endpoints
        )
    )


def deny_only(subject: int, direction: Direction = Direction.INGRESS, **peers: object) -> PolicyItem:
    """Everything but these passes."""
    ref = ObjectRef("CiliumNetworkPolicy", "default", "deny-only")
    rule = ResolvedRule(
        Origin(ref, "spec"),
        direction,
        Action.DENY,
        ResolvedPeers(**peers),
        None,  # type: ignore[arg-type]
    )
    return PolicyItem(ref, 1, (), (ResolvedSpec(frozenset({subject}), False, False, (rule,)),))


#: Counts what arrives; tells it at the end of its input.
HEAR = """
import select, socket, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
sock.bind(("::", PORT))
print("ready")
count = 0
while True:
    ready, _, _ = select.select([sock, sys.stdin], [], [])
    if sock in ready:
        sock.recv(2048)
        count += 1
    elif sys.stdin in ready:
        break
print(count)
"""

#: As fast as it can, each time from a new port, so that each is a new connection.
HAMMER = """
import select, socket, sys
count = 0
print("ready")
socks = [socket.socket(FAMILY, socket.SOCK_DGRAM) for _ in range(64)]
while not select.select([sys.stdin], [], [], 0)[0]:
    for sock in socks:
        try:
            sock.sendto(b"x", ("ADDRESS", PORT))
            count += 1
        except OSError:
            pass
print(count)
"""


def hear(lab: Lab, port: int, pod: str = "b") -> subprocess.Popen[str]:
    return ready(lab.python(pod, HEAR.replace("PORT", str(port))))


def hammer(lab: Lab, address: str, port: int, pod: str = "a") -> subprocess.Popen[str]:
    code = HAMMER.replace("ADDRESS", address).replace("PORT", str(port))
    return ready(lab.python(pod, code.replace("FAMILY", "10" if ":" in address else "2")))


def ready(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def total(process: subprocess.Popen[str]) -> int:
    assert process.stdin and process.stdout
    process.stdin.close()
    return int(process.stdout.readline())


# Every moment of a change.


def test_a_workload_that_changes_its_identity_is_denied_at_every_moment(lab: Lab) -> None:
    """Denied as what it was and denied as what it becomes, by a policy that denies nobody else."""
    lab.set_policies(deny_only(B, identities=frozenset({A})))
    heard, hammering = hear(lab, 9001), hammer(lab, lab.ip("b"), 9001)
    ref_a, held = "default/a", lab.operator.snapshot
    for number in range(310, 370):
        policy = deny_only(B, identities=frozenset({number}))
        item = IdentityItem(number, Labels.k8s({"app": "a", "step": str(number)}))
        ips = (lab.ip("a"), lab.ip("a", 6))
        revision = lab.operator.publish(
            policies={policy.ref: policy},
            identities={**held.cluster.identities, number: item},
            addresses={
                **held.cluster.addresses,
                **{ip: AddressItem(ip, number, lab.node, ref_a) for ip in ips},
            },
            endpoints={**held.own.endpoints, ref_a: replace(held.own.endpoints[ref_a], identity=number)},
        )
        lab.operator.wait(revision)
    assert total(hammering) > 10_000
    assert total(heard) == 0


def test_an_operator_that_lost_its_state_numbers_anew_and_nobody_takes_anothers_number(lab: Lab) -> None:
    """a was 300 and another 400; then they are the other way round, and policy means the same. Many times."""
    other = "10.244.1.99"
    lab.in_node("ip", "route", "add", f"{other}/32", "via", lab.ip("b"), "dev", "wb", "onlink")
    held = lab.operator.snapshot
    names = {n: IdentityItem(n, Labels.k8s({"number": str(n)})) for n in (300, 400)}

    def number_anew(a: int, b_allows: int) -> None:
        policy = allow("one", B, {b_allows})
        policy = replace(
            policy,
            specs=tuple(replace(s, rules=tuple(replace(r, ports=None) for r in s.rules)) for s in policy.specs),
        )
        ips = {lab.ip("a"): a, lab.ip("a", 6): a, other: b_allows}
        addresses = {ip: AddressItem(ip, n, lab.node, "default/x") for ip, n in ips.items()}
        revision = lab.operator.publish(
            policies={policy.ref: policy},
            identities={**held.cluster.identities, **names},
            addresses={**held.cluster.addresses, **addresses},
            endpoints={**held.own.endpoints, "default/a": replace(held.own.endpoints["default/a"], identity=a)},
        )
        lab.operator.wait(revision)

    number_anew(300, 400)
    heard, hammering = hear(lab, 9008), hammer(lab, lab.ip("b"), 9008)
    for _ in range(10):
        number_anew(400, 300)
        number_anew(300, 400)
    assert total(hammering) > 1000
    assert total(heard) == 0
    lab.in_node("ip", "route", "del", f"{other}/32")


def test_an_operator_that_lost_its_state_is_believed_but_not_silently(lab: Lab) -> None:
    """Nobody can tell it from one that was set up anew; what it lifts stands in the status."""
    policy = allow("web", B, {A}, 81)
    lab.set_policies(policy)
    before, epoch = lab.operator.snapshot, lab.operator.epoch
    lab.operator.stop()
    lab.operator.epoch = epoch + "-anew"
    lab.operator.snapshot = replace(before, revision=1, cluster=replace(before.cluster, policies={}))
    lab.operator.acks.clear()
    lab.operator.start()
    lab.operator.wait(1)
    (problem,) = lab.query("status")["problems"]
    assert "lost its state" in problem and "default/web" in problem
    lab.set_policies(policy)
    assert lab.query("status")["ok"]


def test_a_prefix_that_is_denied_by_other_words_is_denied_at_every_moment(lab: Lab) -> None:
    """Half of it and the other half, then the whole of something wider: each time all of it is denied."""
    words = [["198.51.100.0/24"], ["198.51.100.0/25", "198.51.100.128/25"], ["198.51.0.0/16"], ["198.51.100.7/32"]]
    try:
        lab.in_node("ip", "route", "add", "198.51.100.7/32", "via", lab.ip("b"), "dev", "wb", "onlink")
        run("nsenter", f"--net=/run/netns/{lab.name}-b", "ip", "addr", "add", "198.51.100.7/32", "dev", "lo")

        def denied(step: int) -> PolicyItem:
            cidrs = tuple(CidrPeer(ip_network(text), ()) for text in words[step % len(words)])
            return deny_only(A, Direction.EGRESS, cidrs=cidrs)

        lab.set_policies(denied(0))
        heard, hammering = hear(lab, 9002), hammer(lab, "198.51.100.7", 9002)
        for step in range(1, 61):
            lab.set_policies(denied(step))
        assert total(hammering) > 5_000
        assert total(heard) == 0
        heard, hammering = hear(lab, 9003), hammer(lab, "198.51.100.7", 9003)
        lab.set_policies()
        time.sleep(0.2)
        total(hammering)
        assert total(heard) > 0, "or nothing was shown"
    finally:
        lab.in_node("ip", "route", "del", "198.51.100.7/32")


def test_killed_at_any_moment_of_a_change_nothing_denied_gets_through(lab: Lab) -> None:
    """Each time at another moment, while policies of both ends move; what is tried is denied throughout."""

    def policies(step: int) -> list[PolicyItem]:
        return [
            allow("web", B, {A}, 80 + step % 2),
            allow("more", B, {400 + step}, 443),
            allow("out", A, {B, 400 + step}, direction=Direction.EGRESS),
        ]  # fmt: skip

    lab.set_policies(*policies(0))
    heard, hammering = hear(lab, 9004), hammer(lab, lab.ip("b"), 9004)
    for step in range(1, 1 + KILLS):
        for one in range(5):
            held = {item.ref: item for item in policies(step * 5 + one)}
            lab.operator.publish(policies=held)
        time.sleep(0.001 * step)
        assert lab.daemon
        os.kill(lab.daemon.pid, signal.SIGKILL)
        lab.daemon.wait(10)
        lab.start_daemon()
    assert total(hammering) > 10_000
    assert total(heard) == 0
    wait_for(lambda: lab.query("status")["revision"]["in_force"] == lab.operator.snapshot.revision, 10)
    assert lab.set_policies(allow("web", B, {A}, 80)) == {}
    assert lab.connects("a", lab.ip("b"), 80) == "ok"


# Accidents.


def test_an_interface_that_is_made_anew_with_its_old_number_is_guarded(lab: Lab) -> None:
    """Gone and there again before anybody looked: the kernel let go of the programs with the old one."""
    lab.add_pod("c", 302)
    lab.wait_ready("c")
    lab.set_policies(allow("nobody", 302, {999}, 80))
    lab.serve("c", 80)
    assert lab.connects("a", lab.ip("c"), 80) == "timeout"
    index = next(row["ifindex"] for row in lab.query("endpoints") if row["name"] == "c")
    inside = f"{lab.name}-c"
    assert lab.daemon
    os.kill(lab.daemon.pid, signal.SIGSTOP)
    try:
        lab.in_node("ip", "link", "del", "wc")
        lab.in_node(
            "ip", "link", "add", "wc", "index", str(index), "type", "veth", "peer", "name", "eth0", "netns", inside
        )
        lab.in_node("ip", "link", "set", "wc", "up")
        lab.in_node("ip", "addr", "add", "169.254.1.1/32", "dev", "wc")
        inner = ("nsenter", f"--net=/run/netns/{inside}")
        run(*inner, "ip", "link", "set", "eth0", "up")
        run(*inner, "ip", "addr", "add", f"{lab.ip('c')}/32", "dev", "eth0")
        run(*inner, "ip", "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link")
        run(*inner, "ip", "route", "add", "default", "via", "169.254.1.1", "dev", "eth0")
        lab.in_node("ip", "route", "add", f"{lab.ip('c')}/32", "dev", "wc")
    finally:
        os.kill(lab.daemon.pid, signal.SIGCONT)
    lab.wait_ready("c")
    time.sleep(0.3)
    assert lab.connects("a", lab.ip("c"), 80) == "timeout"
    lab.set_policies()
    assert lab.connects("a", lab.ip("c"), 80) == "ok", "or nothing was shown"
    lab.remove_pod("c")


def test_who_gets_the_id_of_one_that_is_gone_inherits_none_of_its_connections(lab: Lab) -> None:
    """The daemon ends before it has swept, and the next one counts on from the ids that it finds."""
    lab.add_pod("d", 303)
    lab.wait_ready("d")
    hammering = hammer(lab, lab.ip("b"), 9009, pod="d")
    time.sleep(0.1)
    total(hammering)
    (row,) = (row for row in lab.query("endpoints") if row["name"] == "d")
    assert lab.query("conntrack", "default/d")["entries"]
    lab.remove_pod("d")
    held = lab.operator.snapshot
    gone = {key: item for key, item in held.own.endpoints.items() if key != "default/d"}
    lab.operator.wait(lab.operator.publish(endpoints=gone))
    lab.stop_daemon(signal.SIGKILL)
    lab.start_daemon()
    lab.add_pod("e", 304)
    lab.wait_ready("e")
    (successor,) = (each for each in lab.query("endpoints") if each["name"] == "e")
    if successor["id"] == row["id"]:
        assert lab.query("conntrack", "default/e")["entries"] == []
    else:
        assert [e for e in lab.query("conntrack")["entries"] if e["endpoint_id"] == row["id"]] == []
    lab.remove_pod("e")


def test_links_that_somebody_unpinned_are_made_again(lab: Lab) -> None:
    lab.set_policies(allow("nobody", B, {999}, 80))
    for pin in lab.pin_dir.glob("link_*"):
        pin.unlink()
    wait_for(lambda: all(len(list(lab.pin_dir.glob(f"link_{way}_*"))) >= 2 for way in ("from", "to")), 10)
    wait_for((lab.pin_dir / "link_connect4").exists, 10)
    assert lab.connects("a", lab.ip("b"), 80) == "timeout"
    assert lab.query("status")["ok"]


def test_links_that_were_unpinned_while_no_daemon_ran_are_made_again_without_a_snapshot(lab: Lab) -> None:
    lab.set_policies(allow("nobody", B, {999}, 80))
    lab.stop_daemon(signal.SIGKILL)
    lab.operator.stop()
    for pin in lab.pin_dir.glob("link_*"):
        pin.unlink()
    (lab.state_dir / "snapshot.bin").unlink()
    lab.start_daemon()
    try:
        assert lab.connects("a", lab.ip("b"), 80) == "timeout"
    finally:
        lab.operator.start()
        wait_for(lambda: lab.query("status")["operator"]["connected"], 10)


def test_a_snapshot_with_a_hole_does_not_put_back_what_was_revoked(lab: Lab) -> None:
    lab.set_policies(allow("web", B, {A}, 80))
    lab.set_policies(allow("web", B, {A}, 81))
    lab.stop_daemon(signal.SIGKILL)
    lab.operator.stop()
    file = lab.state_dir / "snapshot.bin"
    data = bytearray(file.read_bytes())
    data[-1] ^= 0xFF
    file.write_bytes(data)
    lab.start_daemon()
    try:
        assert lab.connects("a", lab.ip("b"), 80) == "timeout"
        status = lab.query("status")
        assert not status["ok"] and "checksum" in status["snapshot_file"]["found"]
    finally:
        lab.operator.start()
        wait_for(lambda: lab.query("status")["operator"]["connected"], 10)
    assert lab.set_policies(allow("web", B, {A}, 80)) == {}
    assert lab.connects("a", lab.ip("b"), 80) == "ok"


def test_two_daemons_do_not_share_a_data_plane_though_they_run_in_different_places(
    lab: Lab,
) -> None:
    with pytest.raises(OSError, match="another daemon serves"):
        asyncio.run(node.locked(lab.pin_dir, "another daemon serves it", patience=0.1))
    lab.stop_daemon(signal.SIGKILL)
    os.close(asyncio.run(node.locked(lab.pin_dir, "another daemon serves it", patience=0.1)))
    lab.start_daemon()


def test_a_service_is_reached_by_a_syn_that_carries_data(lab: Lab) -> None:
    """TCP fast open connects by sending."""
    port = ServicePortItem("http", Protocol.TCP, 8080, 0, "", (BackendItem(lab.ip("b"), 80),))
    item = ServiceItem("default", "b", "ClusterIP", ("10.96.0.77",), (port,))
    lab.operator.wait(lab.operator.publish(services={item.key: item}))
    code = """
import socket
sock = socket.socket()
sock.sendto(b"ping", socket.MSG_FASTOPEN, ("10.96.0.77", 8080))
print(sock.recv(4).decode(), *sock.getpeername())
"""
    process = lab.python("a", code)
    assert process.stdout and process.stdout.readline() == "ping 10.96.0.77 8080\n"
    lab.operator.wait(lab.operator.publish(services={}))


# What the packets say of themselves.

RAW = """
import socket, struct
def send(frame):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.bind(("eth0", 0))
    sock.send(frame)
def udp6(source, target, port, to="ff:ff:ff:ff:ff:ff"):
    src, dst = (socket.inet_pton(socket.AF_INET6, each) for each in (source, target))
    body = struct.pack("!HHHH", 7, port, 9, 0) + b"x"
    pseudo = src + dst + struct.pack("!II", 9, 17) + body + b"\\0"
    words = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    words = (words & 0xFFFF) + (words >> 16)
    check = 0xFFFF - ((words & 0xFFFF) + (words >> 16))
    body = body[:6] + struct.pack("!H", check) + body[8:]
    mac = bytes.fromhex(to.replace(":", ""))
    return mac + bytes(6) + b"\\x86\\xdd" + struct.pack("!IHBB", 6 << 28, 9, 17, 64) + src + dst + body
"""


def gateway_mac(lab: Lab, veth: str) -> str:
    return lab.in_node("ip", "-o", "link", "show", veth).split("link/ether ")[1].split()[0]


FORGED = [
    ("another workload's address", "send(udp6('fd00:10:244:1::63', B, PORT, MAC))"),
    ("the node's", f"send(udp6('{NODE_IP6}', B, PORT, MAC))"),
    ("the gateway's", "send(udp6('fe80::1', B, PORT, MAC))"),
    ("loopback's", "send(udp6('::1', B, PORT, MAC))"),
    ("nobody's", "send(udp6('::', B, PORT, MAC))"),
    ("a tag", "f = udp6(A, B, PORT, MAC); send(f[:12] + b'\\x81\\0\\0\\5' + f[12:])"),
    ("no number of a tag", "f = udp6(A, B, PORT, MAC); send(f[:12] + b'\\x81\\0\\0\\0' + f[12:])"),
    ("two tags", "f = udp6(A, B, PORT, MAC); send(f[:12] + b'\\x88\\xa8\\0\\5\\x81\\0\\0\\6' + f[12:])"),
]


@pytest.mark.parametrize("code", [case[1] for case in FORGED], ids=[case[0] for case in FORGED])
def test_a_workload_with_raw_sockets_speaks_only_for_itself(lab: Lab, code: str) -> None:
    """Nothing is denied but what is forged."""
    lab.set_policies()
    heard = hear(lab, 9010)
    names = {"A": lab.ip("a", 6), "B": lab.ip("b", 6), "MAC": gateway_mac(lab, "wa"), "PORT": 9010}
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    process = lab.python(
        "a", f"{RAW}\n{given}\nfor _ in range(10): {code}\nsend(udp6(A, B, PORT, MAC))\nprint('done')"
    )
    assert process.stdout and process.stdout.readline() == "done\n"
    time.sleep(0.1)
    assert total(heard) == 1, "the last, which is its own"


@pytest.fixture
def outside(lab: Lab) -> Iterator[str]:
    """The name of the namespace of a host beyond the node's uplink."""
    name = f"{lab.name}-outside"
    run("ip", "netns", "add", name)
    lab.in_node("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", name)
    lab.in_node("ip", "link", "set", "uplink", "up")
    inner = ("nsenter", f"--net=/run/netns/{name}")
    run(*inner, "ip", "link", "set", "eth0", "up")
    yield name
    run("ip", "netns", "del", name)


@pytest.mark.parametrize("source", [NODE_IP6, "2001:db8::9"], ids=["the node's address", "its own"])
def test_a_host_outside_that_says_it_is_the_node_is_not(lab: Lab, outside: str, source: str) -> None:
    lab.set_policies(allow("nobody", B, {999}, 80))
    heard = hear(lab, 9005)
    mac = gateway_mac(lab, "uplink")
    code = RAW + f"for _ in range(20): send(udp6('{source}', '{lab.ip('b', 6)}', 9005, '{mac}'))"
    run("nsenter", f"--net=/run/netns/{outside}", "python3", "-c", code)
    time.sleep(0.3)
    assert total(heard) == 0
    lab.set_policies()
    heard = hear(lab, 9006)
    run("nsenter", f"--net=/run/netns/{outside}", "python3", "-c", code.replace("9005", "9006"))
    time.sleep(0.3)
    assert total(heard) == 20, "or nothing was shown"


@pytest.mark.parametrize("target", ["fe80::1", "link-local", "ff02::1", "224.0.0.1", "255.255.255.255"])
def test_the_node_is_not_the_world_by_whatever_name_it_is_called(lab: Lab, target: str) -> None:
    """The workload may speak with the world, not with the node. On its link there is nobody but the node."""
    if target == "link-local":
        target = "fe80::abcd"
        lab.in_node("ip", "-6", "addr", "add", "fe80::abcd/64", "dev", "wa", "nodad")
    ref = ObjectRef("CiliumNetworkPolicy", "default", "world")
    world = ResolvedPeers(world_ipv4=True, world_ipv6=True)
    rule = ResolvedRule(Origin(ref, "spec"), Direction.EGRESS, Action.ALLOW, world, None)
    lab.set_policies(PolicyItem(ref, 1, (), (ResolvedSpec(frozenset({A}), False, True, (rule,)),)))
    server = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{lab.netns}", "python3", "-u", "-c", HEAR.replace("PORT", "9007")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    ready(server)
    family = "AF_INET6" if ":" in target else "AF_INET"
    code = f"""
import socket
sock = socket.socket(socket.{family}, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sock.setsockopt(socket.SOL_SOCKET, 25, b"eth0")
sock.bind(("{lab.ip("a", 6 if ":" in target else 4)}", 0))
for _ in range(10): sock.sendto(b"x", ("{target}", 9007))
print("done")
"""
    process = lab.python("a", code)
    assert process.stdout and process.stdout.readline() == "done\n"
    time.sleep(0.2)
    assert total(server) == 0
