"""A real operator behind its socket: from a saved file to a node's stream, and through every way to die."""

from __future__ import annotations

import asyncio
import signal
import statistics
import subprocess
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from operator_process import PATIENCE, Operator, node, person
from weft.policies.model import ObjectRef
from weft.policies.snapshot import Snapshot
from weft.policies.wire.pb import control_pb2 as pb
from weft.policies.wire.pb import control_pb2_grpc as rpc


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    made = Operator(tmp_path)
    made.start()
    yield made
    made.stop()


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, PATIENCE))


def pod(name: str, ip: str, app: str = "") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app or name}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "i"}]},
        "status": {"podIPs": [{"ip": ip}]},
    }


def plain(kind: str, version: str) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}


def policy(name: str, app: str = "web", port: str = "80") -> str:
    return f"""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: {name}}}
spec:
  endpointSelector: {{matchLabels: {{app: {app}}}}}
  ingress:
  - toPorts:
    - ports: [{{port: "{port}", protocol: TCP}}]
"""


def save(operator: Operator, name: str, text: str) -> None:
    """As editors that care do it: whole or not at all."""
    path = operator.folder / name
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


def names(snapshot: Snapshot) -> list[str]:
    return sorted(ref.name for ref in snapshot.cluster.policies)


def port_of(snapshot: Snapshot, name: str) -> int:
    ports = snapshot.cluster.policies[ref(name)].specs[0].rules[0].ports
    assert ports
    return ports[0].port


def ref(name: str) -> ObjectRef:
    return ObjectRef("CiliumNetworkPolicy", "default", name)


def labels_of(snapshot: Snapshot, key: str) -> tuple[str, ...]:
    return snapshot.cluster.identities[snapshot.own.endpoints[key].identity].labels.strings()


def with_policies(*wanted: str) -> Any:
    return lambda snapshot: names(snapshot) == list(wanted)


def with_port(port: int) -> Any:
    return lambda snapshot: names(snapshot) == ["p"] and port_of(snapshot, "p") == port


# files


def test_a_saved_file_is_a_difference_on_the_stream_within_the_time_it_has(operator: Operator) -> None:
    async def scenario() -> None:
        async with node(operator) as agent:
            await agent.until(lambda snapshot: snapshot.cluster.nodes)
            took = []
            for port in range(1000, 1011):
                began = time.monotonic()
                save(operator, "p.yaml", policy("p", port=str(port)))
                await agent.until(with_port(port))
                took.append(time.monotonic() - began)
                await asyncio.sleep(0.06)
            assert agent.fulls[1:] == [False] * 11
            assert statistics.median(took) < 0.06, took

    run(scenario())


def test_a_broken_file_changes_nothing_and_is_shown_until_it_is_mended(operator: Operator) -> None:
    async def scenario() -> None:
        async with node(operator) as agent, person(operator) as someone:
            save(operator, "p.yaml", policy("p"))
            held = await agent.until(with_policies("p"))
            save(operator, "p.yaml", policy("p").replace("TCP", "QUIC"))
            problem = await shown(someone)
            assert problem.file == str(operator.folder / "p.yaml") and problem.line > 1
            assert problem.object == "CiliumNetworkPolicy default/p" and "ports" in problem.path
            save(operator, "p.yaml", "a: [")
            await asyncio.sleep(0.2)
            assert (await someone.status()).revision == held.revision
            save(operator, "p.yaml", policy("p", port="81"))
            await agent.until(lambda snapshot: port_of(snapshot, "p") == 81)
            assert not (await someone.status()).problems

    run(scenario())


async def shown(someone: Any) -> pb.Problem:
    problem: pb.Problem = (await someone.until(lambda status: status.problems)).problems[0]
    return problem


def test_what_vanishes_from_the_folder_is_removed(operator: Operator) -> None:
    async def scenario() -> None:
        async with node(operator) as agent:
            save(operator, "p.yaml", policy("a") + "---" + policy("b"))
            save(operator, "q.yaml", policy("c"))
            await agent.until(with_policies("a", "b", "c"))
            save(operator, "p.yaml", policy("b"))
            await agent.until(with_policies("b", "c"))
            began = time.monotonic()
            (operator.folder / "q.yaml").unlink()
            await agent.until(with_policies("b"))
            assert time.monotonic() - began < 0.5

    run(scenario())


def test_a_file_saved_in_place_or_by_removing_it_first_lifts_nothing_for_a_moment(operator: Operator) -> None:
    async def scenario() -> None:
        async with node(operator) as agent:
            path = operator.folder / "p.yaml"
            path.write_text(policy("p"))
            await agent.until(with_policies("p"))
            seen = []
            for port in (81, 82, 83):
                path.write_text("") if port % 2 else path.unlink()
                await asyncio.sleep(0.02)
                path.write_text(policy("p", port=str(port)))
                await agent.until(lambda held, port=port: seen.append(names(held)) or port_of(held, "p") == port)
            assert all(found == ["p"] for found in seen)

    run(scenario())


def test_a_folder_that_is_removed_keeps_what_it_declared_and_counts_when_it_is_back(operator: Operator) -> None:
    async def scenario() -> None:
        async with node(operator) as agent, person(operator) as someone:
            save(operator, "p.yaml", policy("p"))
            await agent.until(with_policies("p"))
            away = operator.folder.rename(operator.folder.with_name("away"))
            assert "the folder is gone" in (await shown(someone)).reason
            await asyncio.sleep(0.2)
            assert (await someone.status()).counts["CiliumNetworkPolicy"] == 1
            operator.folder.mkdir()
            save(operator, "q.yaml", policy("q"))
            await agent.until(with_policies("q"))
            (away / "p.yaml").rename(operator.folder / "p.yaml")
            await agent.until(with_policies("p", "q"))

    run(scenario())


# nodes


def test_a_node_that_says_hello_is_a_node_unless_somebody_declared_it(operator: Operator) -> None:
    status = "status: {addresses: [{type: InternalIP, address: 172.30.0.22}]}"
    save(operator, "n.yaml", f"apiVersion: v1\nkind: Node\nmetadata: {{name: node-2}}\n{status}\n")

    async def scenario() -> None:
        async with node(operator, "node-1") as one, person(operator) as someone:
            first = await one.read()
            assert first.full and one.held and one.held.cluster.nodes["node-1"].addresses == ("172.30.0.1",)
            async with node(operator, "node-2", address="172.30.0.2") as two:
                await two.read()
                await one.until(lambda snapshot: "node-2" in snapshot.cluster.nodes)
                assert one.held.cluster.nodes["node-2"].addresses == ("172.30.0.22",)
                status = await someone.status()
                assert [(n.name, n.connected, n.version) for n in status.nodes] == [
                    ("node-1", True, "test"),
                    ("node-2", True, "test"),
                ]

    run(scenario())


def test_a_node_that_moves_registers_its_new_address(operator: Operator) -> None:
    async def scenario() -> None:
        for address in ("172.30.0.1", "172.30.0.9"):
            async with node(operator, address=address) as agent:
                await agent.read()
                assert agent.held and agent.held.cluster.nodes["node-1"].addresses == (address,)

    run(scenario())


def test_a_node_that_is_deleted_is_in_the_status_only_while_it_is_connected(operator: Operator) -> None:
    async def scenario() -> None:
        async with person(operator) as someone:
            async with node(operator) as agent:
                await agent.read()
                assert [n.name for n in (await someone.status()).nodes] == ["node-1"]
            await someone.until(lambda status: not status.nodes[0].connected)
            await someone.delete("Node", "", "node-1")
            assert not (await someone.status()).nodes

    run(scenario())


def test_a_node_that_was_away_a_moment_gets_what_it_missed_and_no_more(operator: Operator) -> None:
    async def scenario() -> None:
        async with node(operator) as agent:
            save(operator, "a.yaml", policy("a"))
            held = await agent.until(with_policies("a"))
            epoch = agent.epoch
        save(operator, "b.yaml", policy("b"))
        async with node(operator, held=held, epoch=epoch) as agent, node(operator, "node-2") as newcomer:
            await agent.until(with_policies("a", "b"))
            assert True not in agent.fulls
            await newcomer.until(with_policies("a", "b"))
            assert newcomer.held and agent.held
            await agent.until(lambda snapshot: snapshot.revision == newcomer.held.revision)  # type: ignore[union-attr]
            assert agent.held.cluster == newcomer.held.cluster

    run(scenario())


def test_what_a_node_acknowledges_and_refuses_is_in_the_status(operator: Operator) -> None:
    async def scenario() -> None:
        async with node(operator) as agent, person(operator) as someone:
            await agent.read()
            await agent.acknowledge(pb.Refusal(resource="policy x", reason="16385 entries"))
            status = (await someone.until(lambda status: status.nodes[0].refusals)).nodes[0]
            assert agent.held and status.acknowledged == agent.held.revision
            assert status.refusals[0].reason == "16385 entries"
            await agent.acknowledge()
            await someone.until(lambda status: not status.nodes[0].refusals)

    run(scenario())


def test_a_node_that_stops_acknowledging_is_sent_little_and_everything_once_it_is_back(operator: Operator) -> None:
    async def scenario() -> None:
        async with node(operator) as agent, person(operator) as someone:
            await agent.read()
            for i in range(270):
                await someone.apply(pod("p", "10.0.0.1", app=f"a{i}"))
            for _ in range(7):
                await agent.read()
            assert agent.fulls == [True] + [False] * 7
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(read := asyncio.ensure_future(agent.read())), 0.2)
            await agent.acknowledge()
            await read
            assert agent.fulls[-1] is True
            assert agent.held and agent.held.revision == (await someone.status()).revision

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_the_newest_stream_of_a_node_is_the_one_that_counts(operator: Operator) -> None:
    async def scenario() -> None:
        async with node(operator) as old:
            await old.read()
            async with node(operator) as new:
                await new.read()
                with pytest.raises(grpc.aio.AioRpcError, match="another stream of node-1 took over"):
                    while True:
                        await old.read()
                save(operator, "p.yaml", policy("p"))
                await new.until(with_policies("p"))

    run(scenario())


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (pb.NodeMessage(ack=pb.Ack(revision=1)), "must be a hello"),
        (pb.NodeMessage(), "must be a hello"),
        (pb.NodeMessage(hello=pb.Hello()), "name"),
        (pb.NodeMessage(hello=pb.Hello(node="../../etc")), "name"),
        (pb.NodeMessage(hello=pb.Hello(node="n", addresses=["localhost"])), "localhost"),
    ],
    ids=["an ack first", "nothing", "no name", "a name that is none", "an address that is none"],
)
def test_a_stream_that_begins_badly_is_refused(operator: Operator, first: pb.NodeMessage, reason: str) -> None:
    async def scenario() -> None:
        async with grpc.aio.insecure_channel(operator.address) as channel:
            stream = rpc.ControlStub(channel).Stream()  # type: ignore[no-untyped-call]
            await stream.write(first)
            with pytest.raises(grpc.aio.AioRpcError, match=reason) as error:
                await stream.read()
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(scenario())


# objects


def test_the_revision_of_an_apply_holds_what_was_applied(operator: Operator) -> None:
    async def scenario() -> None:
        async with node(operator) as agent, person(operator) as someone:
            reply = await someone.apply(pod("web", "10.0.0.1"), namespace="shop")
            assert [(o.what, o.ref.namespace, o.ref.name) for o in reply.outcomes] == [("created", "shop", "web")]
            held = await agent.until(lambda snapshot: snapshot.revision >= reply.revision)
            assert "shop/web" in held.own.endpoints and held.revision == reply.revision
            again = await someone.apply(pod("web", "10.0.0.1"), namespace="shop")
            assert again.outcomes[0].what == "unchanged" and again.revision == reply.revision
            gone = await someone.delete("Pod", "shop", "web")
            assert gone.outcomes[0].what == "deleted" and gone.revision == reply.revision + 1
            assert (await someone.delete("Pod", "shop", "web")).outcomes[0].what == "unchanged"

    run(scenario())


def test_one_refused_document_keeps_all_others_out(operator: Operator) -> None:
    async def scenario() -> None:
        async with person(operator) as someone:
            before = await someone.status()
            reply = await someone.apply(pod("a", "10.0.0.1"), pod("b", "10.0.0.256"), {"kind": "Pod"})
            assert [outcome.what for outcome in reply.outcomes] == ["refused"] * 3
            assert "another object" in reply.outcomes[0].error
            assert (
                reply.outcomes[1].ref.name == "b" and "f.yaml:3: Pod default/b: status" in reply.outcomes[1].error
            )
            after = await someone.status()
            assert (after.revision, after.counts) == (before.revision, before.counts)

    run(scenario())


def test_a_file_and_the_runtime_share_an_object(operator: Operator) -> None:
    """The file declares a Pod; the runtime says where it is; saving the file again forgets neither."""
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: %s}}\nspec: {containers: []}\n"

    async def scenario() -> None:
        async with node(operator) as agent, person(operator) as someone:
            save(operator, "w.yaml", text % "web")
            await someone.until(lambda status: "Pod" in status.counts)
            await someone.apply(pod("web", "10.0.0.1"))
            await agent.until(lambda snapshot: "default/web" in snapshot.own.endpoints)
            save(operator, "w.yaml", text % "other")
            held = await agent.until(
                lambda s: any("app=other" in str(i.labels) for i in s.cluster.identities.values())
            )
            assert held.own.endpoints["default/web"].ips == ("10.0.0.1",)
            (operator.folder / "w.yaml").unlink()
            await agent.until(lambda snapshot: not snapshot.own.endpoints)

    run(scenario())


def test_a_watcher_is_told_what_there_is_and_then_what_changes(operator: Operator) -> None:
    async def scenario() -> None:
        async with person(operator) as someone:
            await someone.apply(pod("a", "10.0.0.1"), plain("Deployment", "apps/v1"))
            watch = someone.stub.Watch(pb.WatchRequest(kinds=["Pod"]))
            events = [await watch.read(), await watch.read()]
            await someone.apply(pod("b", "10.0.0.2"), plain("Namespace", "v1"))
            await someone.delete("Pod", "default", "a")
            events += [await watch.read(), await watch.read()]
            assert [(event.type, event.ref.name) for event in events] == [
                ("put", "a"),
                ("synced", ""),
                ("put", "b"),
                ("gone", "a"),
            ]
            assert '"namespace":"default"' in events[0].json

    run(scenario())


# lives and deaths


def test_a_killed_operator_disturbs_no_node(operator: Operator) -> None:
    async def before() -> Snapshot:
        async with node(operator) as agent, person(operator) as someone:
            for name in ("c", "a", "b"):
                await someone.apply(pod(name, f"10.0.0.{ord(name)}"))
            save(operator, "p.yaml", policy("p", app="a"))
            await agent.until(with_policies("p"))
            save(operator, "p.yaml", policy("p", app="b"))
            return await agent.until(lambda s: s.cluster.policies[ref("p")].revision == 2)

    async def after(held: Snapshot) -> None:
        async with node(operator, held=held, epoch="gone") as agent:
            message = await agent.read()
            assert message.full and agent.held
            assert (agent.held.cluster, agent.held.own) == (held.cluster, held.own)
            assert agent.held.revision > held.revision

    held = asyncio.run(asyncio.wait_for(before(), PATIENCE))
    operator.kill()
    operator.start()
    run(after(held))


def test_what_changed_while_the_operator_was_dead_counts_before_any_node_hears(operator: Operator) -> None:
    async def scenario(*wanted: str) -> None:
        async with node(operator) as agent:
            await agent.read()
            assert agent.held and names(agent.held) == list(wanted)

    save(operator, "a.yaml", policy("a"))
    save(operator, "b.yaml", policy("b"))
    save(operator, "c.yaml", policy("c"))
    operator.wait_for(lambda: operator.log.count("created") == 3)
    operator.kill()
    (operator.folder / "a.yaml").unlink()
    save(operator, "b.yaml", "broken: [")
    save(operator, "d.yaml", policy("d"))
    operator.start()
    run(scenario("b", "c", "d"))


def test_a_folder_that_is_missing_at_the_start_lifts_nothing(operator: Operator) -> None:
    save(operator, "a.yaml", policy("a"))
    operator.wait_for(lambda: "created" in operator.log)
    operator.kill()
    operator.folder.rename(operator.folder.with_name("away"))
    operator.start(make_folder=False)

    async def scenario() -> None:
        async with node(operator) as agent, person(operator) as someone:
            await agent.read()
            assert agent.held and names(agent.held) == ["a"]
            assert "the folder is gone" in (await shown(someone)).reason

    run(scenario())


def test_a_stopped_operator_leaves_no_socket_and_says_so(operator: Operator) -> None:
    socket = operator.base / "run" / "operator.sock"
    assert socket.exists() and socket.stat().st_mode & 0o007 == 0
    assert operator.stop() == 0
    assert not socket.exists() and "stopped at revision" in operator.log


def test_an_operator_stops_in_time_while_nodes_and_watchers_hang_on(operator: Operator) -> None:
    async def scenario() -> None:
        async with node(operator) as agent, person(operator) as someone:
            await agent.read()
            watch = someone.stub.Watch(pb.WatchRequest())
            await watch.read()
            began = time.monotonic()
            assert operator.process
            operator.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(operator.process.wait, 5) == 0
            assert time.monotonic() - began < 2

    run(scenario())


def test_two_operators_do_not_share_a_state_folder(operator: Operator) -> None:
    command = [*operator.command(), f"--run-dir={operator.base}/other"]
    second = subprocess.run(command, capture_output=True, timeout=20)
    assert second.returncode == 1
    assert b"belongs to an operator that is running" in second.stderr


def test_an_idle_operator_is_small(operator: Operator) -> None:
    assert operator.process
    status = Path(f"/proc/{operator.process.pid}/status").read_text()
    resident = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
    assert resident < 60 * 1024, f"{resident} kB"
