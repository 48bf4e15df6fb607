"""DestinationRule: documents to `model.DestinationPolicy`."""

from __future__ import annotations

from weft.policies.dialects.fields import Field, Findings
from weft.policies.dialects.istio.hosts import export_to, host
from weft.policies.dialects.istio.traffic_policy import inherited, traffic_policy
from weft.policies.dialects.istio.values import created_of, dns_label, selector_labels
from weft.policies.dialects.metadata import checked_labels
from weft.policies.mesh.model import DestinationPolicy, LeveledPolicy, Subset
from weft.policies.model import ObjectRef


def parse_destination_rule(root: Field, ref: ObjectRef) -> DestinationPolicy:
    root.record("apiVersion", "kind", "metadata", "spec", "status")
    spec = root.need("spec").record("host", "trafficPolicy", "subsets", "exportTo", "workloadSelector")
    findings = Findings()
    policy, selector = spec.get("trafficPolicy"), spec.get("workloadSelector")
    labels = selector_labels(selector, "matchLabels") if selector is not None else ()
    if selector is not None and not labels:
        findings.warn(selector, "selects every workload")
    levels = traffic_policy(policy, findings) if policy is not None else LeveledPolicy()
    return DestinationPolicy(
        ref=ref,
        host=host(spec.need("host"), ref.namespace),
        policy=levels,
        subsets=_subsets(spec, levels, findings),
        clients=export_to(spec, ref.namespace),
        selector=labels,
        created=created_of(root),
        warnings=findings.warnings,
    )


def _subsets(spec: Field, above: LeveledPolicy, findings: Findings) -> tuple[Subset, ...]:
    field = spec.get("subsets")
    found: dict[str, Subset] = {}
    for item in field.items() if field is not None else ():
        item.record("name", "labels", "trafficPolicy")
        name = dns_label(item.need("name"))
        if name in found:
            raise item.need("name").invalid(f"there is a subset {name} already")
        labels, policy = item.get("labels"), item.get("trafficPolicy")
        pairs = tuple(sorted(checked_labels(labels).items())) if labels is not None else ()
        levels = inherited(policy, traffic_policy(policy, findings), above) if policy is not None else None
        found[name] = Subset(name, pairs, levels)
    return tuple(found.values())
