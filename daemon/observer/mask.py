"""A field mask as a tree, applied in place: on a flow it costs a few calls, where FieldMask.MergeMessage walks its
paths anew each time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message


class Mask:
    """Keeps the named fields (`source.pod_name`, `l4`), clears the rest. ValueError: there is no such field."""

    def __init__(self, descriptor: Descriptor, paths: Iterable[str]) -> None:
        heads: dict[str, list[str]] = {}
        for path in paths:
            head, _, rest = path.partition(".")
            heads.setdefault(head, []).append(rest)
        self._inner: dict[str, Mask] = {}
        for head, rests in heads.items():
            field = descriptor.fields_by_name.get(head)
            if field is None:
                raise ValueError(f"invalid field mask: {descriptor.full_name} has no field {head!r}")
            if "" in rests:  # the whole field, whatever else is said of it
                continue
            if field.message_type is None or field.is_repeated:
                raise ValueError(f"invalid field mask: {field.full_name} has no fields")
            self._inner[head] = Mask(field.message_type, rests)
        self._cleared = [field.name for field in descriptor.fields if field.name not in heads]

    def apply(self, message: Message) -> None:
        for name in self._cleared:
            message.ClearField(name)
        for name, mask in self._inner.items():
            if message.HasField(name):
                inner: Any = getattr(message, name)
                mask.apply(inner)
