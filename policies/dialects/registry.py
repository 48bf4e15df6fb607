"""Which kinds Weft reads, and by which module. The only door from documents to the model.

What another kind means is not Weft's business: `parse` answers None and the caller may count it. But nothing that
*looks* like a policy is let pass unread: a policy kind under a version that Weft does not know is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from weft.policies import objects
from weft.policies.dialects.fields import Field
from weft.policies.model import ObjectRef, Policy
from weft.policies.yamldoc import Document

Parsed = Policy | objects.Object


@dataclass(frozen=True, slots=True)
class Kind:
    """`versions`: the apiVersions it is read under. `parse` gets the document's root and its checked name."""

    name: str
    versions: tuple[str, ...]
    namespaced: bool
    parse: Callable[[Field, ObjectRef], Parsed]


KINDS: Mapping[str, Kind] = {}


def parse(document: Document, default_namespace: str = "default") -> Parsed | None:
    """The policy or object that a document declares; None for a kind that is not Weft's.

    Raises `Invalid` for what is wrong, and with `not_enforced` for what is right but not enforced yet.
    """
    return None


def ref_of(document: Document, default_namespace: str = "default") -> ObjectRef:
    """Kind, namespace and name, of any kind of document; `Invalid` if they are missing or ill-formed."""
    raise NotImplementedError
