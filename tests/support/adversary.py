"""What tests of ways past a policy share: policies for a `ProxyLab`, servers, and whether a connection was cut."""

from __future__ import annotations

import socket

from proxy_lab import Pod, ProxyLab
from weft.policies.model import L7, Action, Direction, HttpRule, ObjectRef, Origin
from weft.policies.snapshot import PolicyItem, ResolvedPeers, ResolvedRule, ResolvedSpec


def policy(direction: Direction, subject: Pod, *peers: Pod, http: tuple[HttpRule, ...] | None = None) -> PolicyItem:
    """Default deny in one direction, and these peers are allowed."""
    ref = ObjectRef("CiliumNetworkPolicy", "default", f"{subject.name}-{direction.name}")
    who = ResolvedPeers(identities=frozenset(peer.identity for peer in peers))
    rule = ResolvedRule(Origin(ref, "spec"), direction, Action.ALLOW, who, None, L7(http=http) if http else None)
    ingress = direction is Direction.INGRESS
    spec = ResolvedSpec(frozenset((subject.identity,)), ingress, not ingress, (rule,))
    return PolicyItem(ref, 1, (), (spec,))


def declare(lab: ProxyLab, *items: PolicyItem) -> None:
    lab._declared.policies.clear()
    lab._declared.policies.update({item.ref: item for item in items})


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def is_cut(sock: socket.socket) -> bool:
    sock.settimeout(5)
    try:
        while data := sock.recv(65536):
            assert data
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True
