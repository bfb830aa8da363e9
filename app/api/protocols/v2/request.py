"""A body as it came -> its pictures, and the outputs that are wanted of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from app.api.protocols.v2 import signature, tensors
from app.api.protocols.v2.bodies import InferRequest, InputTensor, OutputParameters
from app.api.upload import check_json
from app.api.work import Picture
from app.errors import InvalidParameter, MalformedBody
from models.manifest import Manifest

HEADER_LENGTH = "Inference-Header-Content-Length"

_MOST_VALUES = 400_000  # such as pixels; while they are parsed, which takes up to 0.1 s, no other thread runs
_MOST_PROBLEMS = 3

Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True)
class Wanted:
    """An output of the answer, behind its JSON if `binary`; the top `classes` instead of all values."""

    name: str
    binary: bool
    classes: int | None = None


@dataclass(frozen=True)
class Asked:
    id: str | None
    pictures: Sequence[Picture]
    outputs: Sequence[Wanted]


def read(body: bytes, header_length: str | None, manifest: Manifest) -> Asked:
    """`header_length` is how long the JSON is that the body begins with; None where it is nothing else.

    Where it is 0, the body is the file of one picture, and all outputs are wanted in binary. Raises `DemitasseError`s.
    """
    length = len(body) if header_length is None else _length(header_length, len(body))
    if header_length is not None and length == 0:
        return Asked(None, [body], [Wanted(output.name, binary=True) for output in signature.outputs(manifest)])
    header, behind = body[:length], memoryview(body)[length:]
    request = parse(InferRequest, header)
    tensor = _only(request.inputs)
    return Asked(request.id, _pictures(tensor, _binary(tensor, behind), manifest), _wanted(request, manifest))


def parse(kind: type[Body], document: bytes) -> Body:
    """The document as an object of that kind. Raises `MalformedBody`."""
    try:
        check_json(document, _MOST_VALUES)
    except MalformedBody as error:
        raise MalformedBody(f"{error.message}; large tensors can come in binary, behind it") from error
    try:
        return kind.model_validate_json(document)
    except ValidationError as error:
        problems = [
            ": ".join(filter(None, (".".join(map(str, problem["loc"])), problem["msg"])))
            for problem in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise MalformedBody("; ".join(problems[:_MOST_PROBLEMS])) from error


def _length(header: str, most: int) -> int:
    if not (header.isascii() and header.isdecimal() and len(header) <= len(str(most)) and int(header) <= most):
        raise MalformedBody(f"{HEADER_LENGTH}: expected a number up to the body's {most} bytes, got {header:.40}")
    return int(header)


def _only(inputs: Sequence[InputTensor]) -> InputTensor:
    if len(inputs) != 1 or inputs[0].name not in (signature.FILES, signature.PIXELS):
        came = ", ".join(f"'{tensor.name:.40}'" for tensor in inputs) or "none"
        raise InvalidParameter(f"expected one input, '{signature.FILES}' or '{signature.PIXELS}', got {came}")
    return inputs[0]


def _binary(tensor: InputTensor, behind: memoryview) -> memoryview | None:
    """The tensor's bytes behind the JSON; None where its data is in the JSON."""
    size = None if tensor.parameters is None else tensor.parameters.binary_data_size
    if (size is None) == (tensor.data is None):
        raise InvalidParameter(f"input '{tensor.name}': expected either data or a binary_data_size")
    if (size or 0) != len(behind):
        raise InvalidParameter(
            f"input '{tensor.name}': its binary_data_size is {size or 0}, but {len(behind)} bytes follow the JSON"
        )
    return None if size is None else behind


def _pictures(tensor: InputTensor, data: memoryview | None, manifest: Manifest) -> Sequence[Picture]:
    expected = next(known for known in signature.inputs(manifest) if known.name == tensor.name)
    shape, name = tensor.shape, tensor.name
    if tensor.datatype != expected.datatype:
        raise InvalidParameter(f"input '{name}': expected datatype {expected.datatype}, got {tensor.datatype:.40}")
    as_column = name == signature.FILES and len(shape) == 2 and shape[1] == 1  # as MLServer's clients send BYTES
    if not (as_column or _fits(shape, expected.shape)):
        raise InvalidParameter(f"input '{name}': expected shape {expected.shape}, got {shape}")
    if name == signature.FILES:
        if data is None:
            return tensors.files_from_json(tensor.data, shape, name)
        return tensors.files_from_bytes(data, shape[0], name)
    if data is None:
        return list(tensors.pixels_from_json(tensor.data, shape, name))
    return list(tensors.pixels_from_bytes(data, shape, name))


def _fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    return len(shape) == len(expected) and all(
        size == known or known == signature.ANY_SIZE for size, known in zip(shape, expected, strict=True)
    )


def _wanted(request: InferRequest, manifest: Manifest) -> list[Wanted]:
    known = [output.name for output in signature.outputs(manifest)]
    binary = bool(request.parameters and request.parameters.binary_data_output)
    if not request.outputs:
        return [Wanted(name, binary) for name in known]
    names = [output.name for output in request.outputs]
    for name in names:
        if name not in known or names.count(name) > 1:
            raise InvalidParameter(f"expected outputs among {', '.join(known)}, each once, got '{name:.40}'")
    return [_asked_for(output.name, output.parameters or OutputParameters(), binary) for output in request.outputs]


def _asked_for(name: str, parameters: OutputParameters, binary: bool) -> Wanted:
    if parameters.classification is not None and name != signature.PROBABILITIES:
        raise InvalidParameter(f"output '{name}': classification is of '{signature.PROBABILITIES}' only")
    if parameters.binary_data is not None:
        binary = parameters.binary_data
    return Wanted(name, binary, parameters.classification)
