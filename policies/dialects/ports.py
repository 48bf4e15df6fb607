"""The L4 part of one entry of a CiliumNetworkPolicy: `toPorts` and `icmps`.

Numbers mean what Go's `ParseUint(base 0)` makes of them (P4), so `"010"` is port 8; with a letter in it, it is a
name.
"""

from __future__ import annotations

import re

from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.model import PortSpec, Protocol

MAX_PORTS = 40  # of one port rule, and ICMP fields of one rule (P4)

_PROTOCOLS = {"ANY": Protocol.ANY, "TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}
#: Behind --enable-extended-ip-protocols in Cilium.
_EXTENDED = ("VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH")

#: RFC 6335 service names, in linear form: letters, digits and single hyphens inside; one letter at least.
_SERVICE_NAME = re.compile(r"(?=[^a-zA-Z]*[a-zA-Z])[a-zA-Z0-9](?:-?[a-zA-Z0-9])*\Z")

ICMP_TYPES = {
    "EchoReply": 0,
    "DestinationUnreachable": 3,
    "Redirect": 5,
    "Echo": 8,
    "EchoRequest": 8,
    "RouterAdvertisement": 9,
    "RouterSelection": 10,
    "TimeExceeded": 11,
    "ParameterProblem": 12,
    "Timestamp": 13,
    "TimestampReply": 14,
    "Photuris": 40,
    "ExtendedEchoRequest": 42,
    "ExtendedEchoReply": 43,
}
ICMPV6_TYPES = {
    "DestinationUnreachable": 1,
    "PacketTooBig": 2,
    "TimeExceeded": 3,
    "ParameterProblem": 4,
    "EchoRequest": 128,
    "EchoReply": 129,
    "MulticastListenerQuery": 130,
    "MulticastListenerReport": 131,
    "MulticastListenerDone": 132,
    "RouterSolicitation": 133,
    "RouterAdvertisement": 134,
    "NeighborSolicitation": 135,
    "NeighborAdvertisement": 136,
    "RedirectMessage": 137,
    "RouterRenumbering": 138,
    "ICMPNodeInformationQuery": 139,
    "ICMPNodeInformationResponse": 140,
    "InverseNeighborDiscoverySolicitation": 141,
    "InverseNeighborDiscoveryAdvertisement": 142,
    "HomeAgentAddressDiscoveryRequest": 144,
    "HomeAgentAddressDiscoveryReply": 145,
    "MobilePrefixSolicitation": 146,
    "MobilePrefixAdvertisement": 147,
    "DuplicateAddressRequestCodeSuffix": 157,
    "DuplicateAddressConfirmationCodeSuffix": 158,
    "ExtendedEchoRequest": 160,
    "ExtendedEchoReply": 161,
}


def port_list(rule: Field, findings: Findings) -> list[tuple[Field, PortSpec]]:
    """The `ports` of a port rule, each with the field it came from; none if they are left out."""
    ports = rule.get("ports")
    if ports is None:
        return []
    return [(item, _port(item, findings)) for item in ports.items(at_most=MAX_PORTS)]


def is_service_name(text: str) -> bool:
    return len(text) <= 15 and _SERVICE_NAME.match(text) is not None


def _port(item: Field, findings: Findings) -> PortSpec:
    item.record("port", "endPort", "protocol")
    protocol = _protocol(item, findings)
    field = item.get("port")
    if protocol is None and (field is None or field.string() in ("", "0")):
        return PortSpec(Protocol.ANY)  # never used: the policy is refused
    if field is None or not field.string():
        raise (field or item).invalid('needs a port, as a string: a number, a name, or "0" for every port')
    end = _end_port(item)
    text = field.string()
    if is_service_name(text):
        if end:
            findings.warn(item, f"endPort means nothing beside the named port {shown(text)}")
        return PortSpec(protocol or Protocol.ANY, name=text.lower())
    number = _number(field, text, findings)
    if 0 < end <= number:
        findings.warn(item, f"endPort {end} is not above port {number}: only port {number} is meant")
    # 0 alone is every port (P1); with an endPort it is the first of the range
    return PortSpec(protocol or Protocol.ANY, number, max(number, end))


def _end_port(item: Field) -> int:
    """0: none."""
    field = item.get("endPort")
    return field.integer(0, 65535) if field is not None else 0


def _number(field: Field, text: str, findings: Findings) -> int:
    octal = len(text) > 1 and text[0] == "0"
    if not (text.isascii() and text.isdigit()) or len(text) > 8 or (octal and not set(text) <= set("01234567")):
        raise field.invalid(
            f"{shown(text)} is neither a port number nor a port name (at most 15 letters, digits, '-')"
        )
    number = int(text, 8 if octal else 10)
    if number > 65535:
        raise field.invalid(f"{text} is above 65535")
    if octal and number:
        findings.warn(field, f"{shown(text)} starts with 0, which makes it octal: port {number}")
    return number


def _protocol(item: Field, findings: Findings) -> Protocol | None:
    """None: one that is not enforced."""
    field = item.get("protocol")
    if field is None or not field.string():
        return Protocol.ANY
    text = field.string()
    if text in _EXTENDED:
        findings.not_enforced(field, f"the protocol {text}")
        return None
    if text in ("ICMP", "ICMPv6"):
        raise field.invalid(f"{text} has no ports: use icmps")
    return _PROTOCOLS[field.one_of(_PROTOCOLS)]


def icmp_list(icmps: Field) -> list[PortSpec]:
    """Every field of every rule of `icmps`."""
    found = []
    for rule in icmps.items():
        fields = rule.record("fields").get("fields")
        if fields is not None:
            found += [_icmp(field) for field in fields.items(at_most=MAX_PORTS)]
    return found


def _icmp(field: Field) -> PortSpec:
    field.record("family", "type")
    family_field = field.get("family")
    family = family_field.one_of(("IPv4", "IPv6")) if family_field is not None else "IPv4"
    protocol, types = (Protocol.ICMPV6, ICMPV6_TYPES) if family == "IPv6" else (Protocol.ICMP, ICMP_TYPES)
    number = _icmp_type(field.need("type"), family, types)
    return PortSpec(protocol, number, number)


def _icmp_type(field: Field, family: str, types: dict[str, int]) -> int:
    if not isinstance(field.value, str):
        return field.integer(0, 255)
    text = field.string()
    if text in types:
        return types[text]
    if re.fullmatch(r"0|[1-9][0-9]{0,2}", text, re.ASCII) and int(text) <= 255:
        return int(text)
    raise field.invalid(f"{shown(text)} is no ICMP type of {family}: 0 to 255, or one of {', '.join(types)}")
