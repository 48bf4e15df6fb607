"""What is under way when policy changes: a permit that is taken back ends what it let begin.

In: the addresses whose permits may be others now (None: anybody's). Out: exchanges that are judged again, as they
would be if they began now, and ended if they may not: with 403 if nothing of the response has gone out, else cut.
An address that has passed to another workload carries nothing of the one before.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from weft.l7proxy.core import admission
from weft.l7proxy.core.attempt import copy_of
from weft.l7proxy.core.parties import same_workload

if TYPE_CHECKING:
    from weft.l7proxy.core.exchange import Engine
    from weft.l7proxy.core.parties import Workload
    from weft.l7proxy.core.streaming import Streaming


def policy_changed(engine: Engine, addresses: Collection[str] | None) -> None:
    for exchange in list(engine.active):
        if addresses is None or _concerned(exchange, addresses):
            engine.guard(exchange, _rejudge, exchange)
    for mirror in list(engine.mirrors):
        if not mirror.permitted():
            mirror.abandon()


def _concerned(exchange: Streaming, addresses: Collection[str]) -> bool:
    endpoint = exchange.endpoint
    return exchange.client.ip in addresses or (endpoint is not None and endpoint.ip in addresses)


def _rejudge(exchange: Streaming) -> None:
    """Between two tries nothing is judged: the next one will be, as who the client is now."""
    before, world = exchange.client, exchange.engine.world
    exchange.client = client = world.workload(before.ip)
    if not same_workload(before, client):
        exchange.revoke("the client's address belongs to another workload")
    elif exchange.trying and not _permitted(exchange, client):
        exchange.revoke("policy_revoked")


def _permitted(exchange: Streaming, client: Workload) -> bool:
    endpoint, world = exchange.endpoint, exchange.engine.world
    assert endpoint is not None
    permit = world.permit(client, endpoint.workload, endpoint.port)
    if permit == exchange.permit:
        return True
    exchange.permit, entry = permit, exchange.entry
    if not permit.allowed:
        entry.denied_by = permit.denied_by
        return False
    return admission.admit(world, permit, exchange.request, copy_of(exchange.sent), entry)
