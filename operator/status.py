"""What `weft status` asks of the operator: revision, nodes, counts, and what is not as people declared it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from weft.operator.declared import Notice
from weft.operator.nodes import Nodes
from weft.operator.reconcile import Reconciler
from weft.operator.watch import Watch
from weft.policies.errors import Where
from weft.policies.model import ObjectRef
from weft.policies.wire.pb import control_pb2 as pb

#: Of one reply; what is beyond is counted in the last.
MAX_PROBLEMS = 500


@dataclass(frozen=True, slots=True)
class Status:
    reconciler: Reconciler
    nodes: Nodes
    watch: Watch

    def __call__(self) -> pb.StatusReply:
        hub = self.reconciler.hub
        return pb.StatusReply(
            version=own_version(),
            epoch=hub.epoch,
            revision=hub.revision,
            nodes=[
                pb.NodeStatus(
                    name=node.name,
                    connected=node.session is not None,
                    acknowledged=node.acknowledged,
                    refusals=node.refusals,
                    version=node.version,
                )
                for node in self.nodes
            ],
            problems=_limited([_problem(notice) for notice in self.problems()]),
            counts=self.reconciler.store.counts() | {"identities": len(self.reconciler.ledger)},
        )

    def problems(self) -> Iterator[Notice]:
        reconciler = self.reconciler
        yield from self.watch.notices()
        for ref, reason in sorted(reconciler.cluster_problems().items()):
            yield Notice(self._where(ref), reason)
        for ref, reason in sorted(reconciler.cluster_warnings().items()):
            yield Notice(self._where(ref), reason, True)
        for what, reason in reconciler.store.problems.items():
            yield Notice(Where(object=str(what)), reason)
        for reason in (reconciler.ledger.problem, reconciler.reservation.problem, reconciler.failure):
            if reason:
                yield Notice(Where(object="operator"), reason)

    def _where(self, ref: ObjectRef) -> Where:
        stored = self.reconciler.store.get(ref)
        return Where(stored.file, stored.line, str(ref)) if stored else Where(object=str(ref))


def _problem(notice: Notice) -> pb.Problem:
    where = notice.where
    return pb.Problem(
        file=where.file,
        line=where.line,
        object=where.object,
        path=where.path,
        reason=notice.reason,
        warning=notice.warning,
    )


def _limited(problems: list[pb.Problem]) -> list[pb.Problem]:
    if len(problems) <= MAX_PROBLEMS:
        return problems
    return [*problems[:MAX_PROBLEMS], pb.Problem(reason=f"and {len(problems) - MAX_PROBLEMS} more")]


def own_version() -> str:
    try:
        return version("weft")
    except PackageNotFoundError:  # run from a tree that was never installed
        return "unknown"
