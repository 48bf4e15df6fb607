"""What `weft policy verdict` must answer: how a row is written.

Every answer was decided from the specification before the command was asked. Probe: `FROM > TO:PORT`, with `/udp`,
`/sctp`, `/icmp` or `/icmp6` (the port is the type), and for a request ` METHOD PATH [host=H] [Name=value ...]`;
the short names are in `cluster`.
"""

from __future__ import annotations

from dataclasses import dataclass

from truth_cases import S, cnp


@dataclass(frozen=True)
class Row:
    """`allow`: allowed, and not by way of the proxy. `proxy`: allowed through it. `deny`: never gets there.
    `forbid`: the connection is made, the proxy refuses the request. `refused`: a policy is, with these words."""

    id: str
    policies: str
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    proxy: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def ingress(entry: str, more: str = "") -> str:
    return cnp(f"{S}ingress:\n- {entry}\n{more}")


def egress(entry: str, more: str = "") -> str:
    return cnp(f"{S}egress:\n- {entry}\n{more}")


def ports(*items: str) -> str:
    return f"toPorts: [{{ports: [{', '.join('{' + item + '}' for item in items)}]}}]"


def http(rules: str, port: str = "80") -> str:
    return f"toPorts: [{{ports: [{{port: '{port}', protocol: TCP}}], rules: {{http: [{rules}]}}}}]"


def anybody_http(*rules: str) -> str:
    return ingress("{" + http(", ".join("{" + rule + "}" for rule in rules)) + "}")


FOO = "fromEndpoints: [{matchLabels: {app: foo}}]"
TO_FOO = "toEndpoints: [{matchLabels: {app: foo}}]"
OFF = "enableDefaultDeny: {ingress: false}\n"
GET = "foo > s:80 GET"
