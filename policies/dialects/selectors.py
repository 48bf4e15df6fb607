"""Label selectors: `matchLabels` and `matchExpressions`, which must all hold (S8), and the namespace that Cilium
adds to them (S3, S4, S6, S7).

Selectors come out in one canonical order, so that two that say the same are equal and are resolved once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.metadata import check_label_key, check_label_value
from weft.policies.labels import (
    ANY_SOURCE,
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    SOURCES,
    Op,
    Requirement,
    Selector,
    equals,
    split_source,
)

#: From a key as it is written to (source, key) as it is matched; tells what is wrong with it at the field.
KeyReader = Callable[[Field, str], tuple[str, str]]

EXISTS_NAMESPACE = Requirement("k8s", NAMESPACE_KEY, Op.EXISTS)
_RESERVED = "reserved"


def label_selector(field: Field, key_of: KeyReader, *, lax: bool = False) -> Selector:
    """An empty selector (`{}`) selects everything; a missing one is the caller's business. `lax`: null members are
    as left out, which is Kubernetes' own way."""
    field.record("matchLabels", "matchExpressions")
    get = field.lax if lax else field.get
    requirements: set[Requirement] = set()
    labels = get("matchLabels")
    if labels is not None:
        requirements.update(_match_labels(labels, key_of))
    expressions = get("matchExpressions")
    if expressions is not None:
        requirements.update(_expression(item, key_of) for item in expressions.items())
    return Selector(tuple(sorted(requirements, key=_order)))


def _order(requirement: Requirement) -> tuple[str, str, str, tuple[str, ...]]:
    return (requirement.key, requirement.source, requirement.op, requirement.values)


def _match_labels(field: Field, key_of: KeyReader) -> Iterator[Requirement]:
    for text, value in field.entries():
        source, key = key_of(value, text)
        yield Requirement(source, key, Op.IN, (check_label_value(value),))


def _expression(field: Field, key_of: KeyReader) -> Requirement:
    field.record("key", "operator", "values")
    key_field = field.need("key")
    source, key = key_of(key_field, key_field.text())
    op = Op(field.need("operator").one_of([op.value for op in Op]))
    values = field.get("values")
    given = [check_label_value(value) for value in values.items()] if values is not None else []
    if op in (Op.IN, Op.NOT_IN) and not given:
        raise (values or field).invalid(f"the operator {op} needs at least one value")
    if op in (Op.EXISTS, Op.DOES_NOT_EXIST) and given:
        raise (values or field).invalid(f"the operator {op} takes no values")
    return Requirement(source, key, op, tuple(sorted(set(given))))


def cilium_key(field: Field, text: str) -> tuple[str, str]:
    """`k8s:app`, `reserved:host`, `app` (any source, S11)."""
    source, key = split_source(text)
    if source == ANY_SOURCE and ":" in key:
        raise field.invalid(f"{shown(text)}: no such label source, known are {', '.join(SOURCES)}")
    # Keys of namespace labels carry the namespace's own key, prefix and all, behind Cilium's.
    check_label_key(field, key.removeprefix(NAMESPACE_LABEL_PREFIX))
    return source, key


def plain_key(prefix: str = "") -> KeyReader:
    """Kubernetes' own selectors: keys have no source, what they mean is always a label of Kubernetes."""

    def read(field: Field, text: str) -> tuple[str, str]:
        check_label_key(field, text)
        return "k8s", prefix + text

    return read


def subject_selector(field: Field, namespace: str, findings: Findings) -> Selector:
    """Whom a CNP is about: always workloads of its own namespace, whatever it says (S6). "" is clusterwide."""
    selector = label_selector(field, cilium_key)
    if not namespace:
        return selector
    about = [r for r in selector.requirements if _is_namespace(r) and r.op is Op.IN]
    if any(r.values != (namespace,) for r in about):
        findings.warn(field, f"names other namespaces; the policy is about workloads in {namespace} all the same")
    kept = tuple(r for r in selector.requirements if r not in about)
    return Selector(kept).and_(equals(NAMESPACE_KEY, namespace))


def peer_selector(field: Field, namespace: str, *, init: bool) -> Selector:
    """Whom a rule of a policy in `namespace` ("" clusterwide) means by a selector. `init`: the policy is about
    initialising endpoints, which have no namespace yet."""
    selector = label_selector(field, cilium_key)
    if any(r.source == _RESERVED for r in selector.requirements) or any(map(_is_namespace, selector.requirements)):
        return selector
    if not namespace:
        return selector if init else selector.and_(EXISTS_NAMESPACE)
    if selector.mentions(prefix=NAMESPACE_LABEL_PREFIX):
        return selector
    return selector.and_(equals(NAMESPACE_KEY, namespace))


def selects_init(selector: Selector) -> bool:
    return any(r.source == _RESERVED and r.key == "init" for r in selector.requirements)


def _is_namespace(requirement: Requirement) -> bool:
    return requirement.key == NAMESPACE_KEY and requirement.source in ("k8s", ANY_SOURCE)
