"""The messages of the protocols, read from `messages.binpb`.

protoc makes the file of the .proto files beside it, with grpcio-tools:

    python -m grpc_tools.protoc -I. --include_imports --descriptor_set_out=messages.binpb *.proto

The messages have a descriptor pool of their own: a client such as tritonclient declares messages of
the same names in the default pool, and could not be imported in the same process.
"""

from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from ...errors import ManifestError, reason_of
from ...tensor_proto import read_fields
from ..errors import RequestError

# Parsing holds the interpreter. Longer messages have their fields counted before, in parts that let
# other threads run: two bytes of a message can become a hundred in memory.
_LONG = 200_000
_MAX_FIELDS = 100_000
# Bytes of integers that are not raw. They are parsed one by one, 50 ms for these.
_MAX_TYPED = 8_000_000
_FIXED = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)


def _make_pool() -> DescriptorPool:
    pool = DescriptorPool()
    content = Path(__file__).with_name("messages.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(content).file:
        pool.Add(file)
    for module in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool


POOL = _make_pool()


def message_class(name: str) -> Any:
    """Return the class of a message by its full name, such as `inference.ModelInferRequest`."""
    return GetMessageClass(POOL.FindMessageTypeByName(name))


def parse(message: Any, content: bytes) -> Any:
    """Return a message of a class, parsed.

    Raises:
        RequestError: the bytes are not such a message, or take too long to parse.
    """
    name = message.DESCRIPTOR.name
    try:
        if len(content) >= _LONG:
            _check_fields(message.DESCRIPTOR, content, name)
        return message.FromString(content)
    except (DecodeError, ManifestError) as error:
        raise RequestError(f"The message must be a {name}: {reason_of(error)}.") from None


def _check_fields(descriptor: Any, content: bytes, name: str) -> None:
    fields = typed = 0
    left: list[tuple[Any, memoryview]] = [(descriptor, memoryview(content))]
    while left:
        kind, part = left.pop()
        known = kind.fields_by_number
        for number, value in read_fields(part):
            fields += 1
            if isinstance(value, int) or number not in known:
                pass
            elif (field := known[number]).message_type is not None:
                left.append((field.message_type, memoryview(value)))
            elif field.is_packed and field.type not in _FIXED:
                typed += len(value)
            if fields > _MAX_FIELDS:
                raise RequestError(
                    f"A {name} must have at most {_MAX_FIELDS:,} fields. Received: more.", 413
                )
        if typed > _MAX_TYPED:
            raise RequestError(
                f"A {name} must have at most {_MAX_TYPED:,} bytes of integers that are not raw. "
                f"Received: {typed:,}. Send the tensors as raw bytes.",
                413,
            )


def first_value(content: bytes | memoryview) -> memoryview | None:
    """Return the first field of a message if it is field 1 and has bytes, text or a message.

    It is where clients write the name of a model, and is found without parsing the rest, which may
    be no message.
    """
    try:
        number, value = next(read_fields(memoryview(content)), (0, 0))
    except ManifestError:
        return None
    return value if number == 1 and isinstance(value, memoryview) else None


def bytes_field(number: int, content: bytes) -> tuple[bytes, bytes]:
    """Return a field of bytes or text, or of packed numbers, as it stands in a message."""
    head, size = bytearray([number << 3 | 2]), len(content)
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head), content
