"""The wire is Hubble's: what clients were built against, field by field, against what `make proto` made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

from weft.policies.wire.pb import flow_pb2, observer_pb2, peer_pb2, relay_pb2

PUBLISHED = Path(__file__).with_name("hubble_api.txt")


def facts(file: FileDescriptorProto) -> Iterator[str]:
    for message in file.message_type:
        yield from message_facts(message, f"{file.package}.{message.name}")
    for enum in file.enum_type:
        yield from enum_facts(enum, f"{file.package}.{enum.name}")
    for service in file.service:
        for rpc in service.method:
            kind = "stream" if rpc.server_streaming else "unary"
            name = f"{file.package}.{service.name}/{rpc.name}"
            yield f"{name} {rpc.input_type.lstrip('.')} {rpc.output_type.lstrip('.')} {kind}"


def message_facts(message: DescriptorProto, path: str) -> Iterator[str]:
    yield f"message {path}"
    for gap in message.reserved_range:
        yield f"reserved {path} {gap.start}-{gap.end - 1}"
    for field in message.field:
        label = Field.Label.Name(field.label).removeprefix("LABEL_").lower()
        kind = field.type_name.lstrip(".") or Field.Type.Name(field.type).removeprefix("TYPE_").lower()
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else "-"
        deprecated = "deprecated" if field.options.deprecated else "-"
        yield f"{path}.{field.name} {field.number} {label} {kind} {oneof} {deprecated}"
    for enum in message.enum_type:
        yield from enum_facts(enum, f"{path}.{enum.name}")
    for nested in message.nested_type:
        yield from message_facts(nested, f"{path}.{nested.name}")


def enum_facts(enum: EnumDescriptorProto, path: str) -> Iterator[str]:
    for value in enum.value:
        yield f"{path}.{value.name} {value.number} value"


@pytest.mark.parametrize("package", ["flow", "observer", "peer", "relay"])
def test_every_name_number_and_type_is_the_published_one(package: str) -> None:
    module = {"flow": flow_pb2, "observer": observer_pb2, "peer": peer_pb2, "relay": relay_pb2}[package]
    ours = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(ours)
    lines = [line for line in PUBLISHED.read_text().splitlines() if not line.startswith("#")]
    published = {
        line for line in lines if line.removeprefix("message ").removeprefix("reserved ").startswith(f"{package}.")
    }
    assert len(published) > 5
    assert set(facts(ours)) == published
