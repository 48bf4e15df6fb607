"""Circuit breakers: how much of one destination one client workload may have under way on this node at once.

Rule: whatever is begun is ended, exactly once, and what is written to the shared row is what is counted here.
A limit is judged on the sum of all workers; two of them may pass one last place at the same moment, so a limit is
exact in one worker and may be exceeded by one request for each further worker.
"""

from __future__ import annotations

from weft.bpf.shared import ACTIVE, CONNECTIONS, PENDING, RETRIES, Private, Row, Rows
from weft.policies.mesh.model import UNLIMITED, ConnectionPool


class Circuit:
    """`requests` are those on a connection, and those that failed before and are not `done` yet; `pending` wait
    for a connection; `connections` are open or being opened; `retries` are under way. `overflows`: refused so
    far; `users`: views."""

    __slots__ = ("_row", "_rows", "connections", "overflows", "pending", "requests", "retries", "users")

    def __init__(self, rows: Rows, row: Row) -> None:
        self._rows, self._row = rows, row
        self.requests = self.pending = self.connections = self.retries = 0
        self.overflows = self.users = 0

    def begin(self, settings: ConnectionPool) -> bool:
        """A request; `end` follows in any case. False: there were as many already as are allowed."""
        limit = settings.http2_max_requests
        within = limit == UNLIMITED or self._sum(ACTIVE, self.requests) < limit
        self.requests += 1
        self._row.mine[ACTIVE] = self.requests
        if not within:
            self.overflows += 1
        return within

    def end(self) -> None:
        self.requests -= 1
        # done() before cancel() of a request that still waits takes away first what cancel() adds then
        self._row.mine[ACTIVE] = self.requests if self.requests > 0 else 0

    def wait(self, settings: ConnectionPool) -> bool:
        """A request waits for a connection, until `waited`. False: too many do, and it does not."""
        limit = settings.http1_max_pending
        if limit != UNLIMITED and self._sum(PENDING, self.pending) >= limit:
            self.overflows += 1
            return False
        self.pending += 1
        self._row.mine[PENDING] = self.pending
        return True

    def waited(self) -> None:
        self.pending -= 1
        self._row.mine[PENDING] = self.pending

    def connect(self, settings: ConnectionPool, first: bool = False) -> bool:
        """A connection, until `disconnect`. `first`: a pool without any always gets one (as Envoy's do), or what
        waits there would wait for ever. False: there are as many as are allowed."""
        limit = settings.max_connections
        if not first and limit != UNLIMITED and self._sum(CONNECTIONS, self.connections) >= limit:
            return False
        self.connections += 1
        self._row.mine[CONNECTIONS] = self.connections
        return True

    def disconnect(self) -> None:
        self.connections -= 1
        self._row.mine[CONNECTIONS] = self.connections

    def retry(self, settings: ConnectionPool) -> bool:
        """A retry, until `retried`. A budget stands in place of the number, where there is one."""
        under_way = self._sum(RETRIES, self.retries)
        if settings.retry_budget is not None:
            percent, minimum = settings.retry_budget
            load = self._sum(ACTIVE, self.requests) + self._sum(PENDING, self.pending)
            limit = max(int(load * percent / 100), minimum)
        else:
            limit = settings.max_retries
        if under_way >= limit:
            self.overflows += 1
            return False
        self.retries += 1
        self._row.mine[RETRIES] = self.retries
        return True

    def retried(self) -> None:
        self.retries -= 1
        self._row.mine[RETRIES] = self.retries

    @property
    def quiet(self) -> bool:
        return not (self.requests or self.pending or self.connections or self.retries)

    def close(self) -> None:
        """Nobody counts here any more: the row may serve another key."""
        self._rows.release(self._row)
        self._row = Private().row("", "", "")

    def _sum(self, counter: int, own: int) -> int:
        return own if self._rows.alone else self._row.total(counter)
