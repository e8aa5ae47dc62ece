"""Build protobuf message classes from the schema table, at run time and in a private descriptor pool.

A private pool lets torchcaffe and the real ``caffe_pb2`` live in one process, and building at run time makes one
source work with every protobuf from 3.12 on.
"""
import re
from typing import Any, Dict, Iterator, Tuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

_SCALARS = {"double": 1, "float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9, "bytes": 12, "uint32": 13}
_MESSAGE, _ENUM = 11, 14
_OPTIONAL, _REQUIRED, _REPEATED = 1, 2, 3
_FIELD = re.compile(r"([\w.]+)([*!&]*) (\w+) (\d+)(?:=(.*))?$")


def paragraphs(schema: str) -> Iterator[Tuple[str, str]]:
    """Yield (heading, body) of every message and enum of a schema text."""
    for line in re.sub(r"\n\s+", " ", schema.strip()).splitlines():
        heading, body = line.split(":", 1)
        yield heading, body.strip()


def _add_enum(file: Any, messages: Dict[str, Any], heading: str, body: str) -> str:
    name = heading.split()[1]
    owner, _, short = name.rpartition(".")
    enum = (messages[owner] if owner else file).enum_type.add(name=short)
    for value in body.split(", "):
        key, number = value.split()
        enum.value.add(name=key, number=int(number))
    return name


def _add_field(message: Any, text: str, enums: Any) -> None:
    found = _FIELD.match(text)
    assert found, text
    kind, flags, name, number, default = found.groups()
    label = _REPEATED if "*" in flags else _REQUIRED if "&" in flags else _OPTIONAL
    field = message.field.add(name=name, number=int(number), label=label)
    field.type = _SCALARS.get(kind, _ENUM if kind in enums else _MESSAGE)
    if kind not in _SCALARS:
        field.type_name = ".caffe." + kind
    if default is not None:
        field.default_value = default
    if "!" in flags:
        field.options.packed = True


def describe(schema: str) -> Any:
    """Return the FileDescriptorProto of a schema text."""
    file = descriptor_pb2.FileDescriptorProto(name="torchcaffe/caffe.proto", package="caffe", syntax="proto2")
    messages = {head: file.message_type.add(name=head) for head, _ in paragraphs(schema) if " " not in head}
    enums = {_add_enum(file, messages, head, body) for head, body in paragraphs(schema) if " " in head}
    for heading, body in paragraphs(schema):
        for text in re.split(r", (?=[\w.]+[*!&]* )", body) if heading in messages else ():
            _add_field(messages[heading], text, enums)
    return file


def build(schema: str) -> Dict[str, Any]:
    """Return {name: message class, enum wrapper or enum value} of a schema text.

    The names are those that protoc's own ``caffe_pb2`` module has.
    """
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(describe(schema).SerializeToString())
    descriptor = pool.FindFileByName("torchcaffe/caffe.proto")
    make = getattr(message_factory, "GetMessageClass", None)
    if make is None:  # protobuf before 4.22
        make = message_factory.MessageFactory(pool).GetPrototype  # type: ignore[attr-defined]
    names: Dict[str, Any] = {"DESCRIPTOR": descriptor}
    for name, message in descriptor.message_types_by_name.items():
        names[name] = make(message)
    for name, enum in descriptor.enum_types_by_name.items():
        names[name] = enum_type_wrapper.EnumTypeWrapper(enum)
        names.update({value.name: value.number for value in enum.values})
    return names
