"""The process that holds a local cluster: `python -m weft.daemon.local.supervisor RUN_DIR`.

Makes the underlay and the nodes, keeps operator and daemons running, runs the controller. `weft local up` starts
it in the background, once, over a run directory with config.json in it. It leaves nothing to clean: whatever it
makes is found by name, so TERM and KILL are the same to it, and `weft local down` does the rest.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from pathlib import Path

from weft.daemon.local import cgroup, logs, network, teardown
from weft.daemon.local.controller import Controller
from weft.daemon.local.names import Cluster
from weft.daemon.local.node import Node, command
from weft.daemon.local.pod import Context
from weft.daemon.local.programs import Program, keep_running
from weft.daemon.local.state import Config, State, read_config, take_lock, write_state

log = logging.getLogger("weft.local")
LOGS_EVERY = 5.0  # seconds between looks at the sizes of logs


def operator_program(cluster: Cluster, config: Config) -> Program:
    words = ["--run-dir", str(cluster.run_dir), "--state-dir", str(cluster.state_dir / "operator")]
    words += ["--namespace", config.namespace]
    for folder in config.watch:
        words += ["--watch", folder]
    group = cluster.cgroup(cgroup.mount_point(), teardown.OPERATOR)
    return Program("operator", (*command("operator"), *words), group, cluster.run_dir / "operator.log")


def make_network(cluster: Cluster, nodes: tuple[Node, ...]) -> None:
    teardown.note_netns(cluster, cluster.underlay)
    network.make_underlay(cluster)
    for node in nodes:
        node.make()


async def run(cluster: Cluster, config: Config) -> None:
    """Until cancelled."""
    nodes = tuple(Node(cluster, index, config.nodes, config.proxy_workers) for index in range(1, config.nodes + 1))
    await asyncio.to_thread(make_network, cluster, nodes)
    state = State(nodes={node.name: node.state for node in nodes})
    controller = Controller(Context(cluster, config, nodes), state)
    operator = operator_program(cluster, config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_running(operator, state.operator, controller.state_changed))
        for node in nodes:
            tasks.create_task(node.run(controller.state_changed))
        tasks.create_task(controller.run())
        tasks.create_task(trim_logs(cluster))


async def trim_logs(cluster: Cluster) -> None:
    while True:
        await asyncio.sleep(LOGS_EVERY)
        for path in [
            *cluster.run_dir.glob("*.log"),
            *cluster.run_dir.glob("*/*.log"),
            *cluster.room.glob("pods/*/*.log"),
        ]:
            logs.trim(path)


def main(run_dir: str) -> int:
    cluster = Cluster(Path(run_dir))
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.Formatter.converter = time.gmtime
    try:
        lock = take_lock(cluster)
    except BlockingIOError:
        log.error("%s: another supervisor holds it", cluster.run_dir)
        return 1
    with lock:
        try:
            asyncio.run(run(cluster, read_config(cluster)))
        except KeyboardInterrupt:
            return 0
        except BaseException as error:
            log.exception("the supervisor gives up")
            write_state(cluster, State(error=f"{type(error).__name__}: {error}"))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
