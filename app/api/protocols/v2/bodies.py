"""The JSON of the protocol. What comes in is strict about types and lenient about keys that others have added."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

_MOST_TENSORS = 16
_MOST_DIMENSIONS = 16
_LARGEST_DIMENSION = 2**31  # beyond any body, and their product is still short enough to be written out


class _Received(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class InputParameters(_Received):
    binary_data_size: int | None = Field(default=None, ge=0, description="bytes of this tensor behind the JSON")


class InputTensor(_Received):
    name: str
    shape: list[Annotated[int, Field(ge=0, le=_LARGEST_DIMENSION)]] = Field(max_length=_MOST_DIMENSIONS)
    datatype: str
    parameters: InputParameters | None = None
    data: Any = Field(default=None, description="row-major, nested or flat; of BYTES, base64")


class OutputParameters(_Received):
    binary_data: bool | None = Field(default=None, description="whether this output comes behind the JSON")
    classification: int | None = Field(default=None, ge=1, description="top classes as value:index:label instead")


class RequestedOutput(_Received):
    name: str
    parameters: OutputParameters | None = None


class InferParameters(_Received):
    binary_data_output: bool | None = Field(default=None, description="whether all outputs come behind the JSON")


class InferRequest(_Received):
    id: str | None = Field(default=None, max_length=1024)
    parameters: InferParameters | None = None
    inputs: list[InputTensor] = Field(max_length=_MOST_TENSORS)
    outputs: list[RequestedOutput] | None = Field(
        default=None, max_length=_MOST_TENSORS, description="default: all of the model's"
    )


class IndexRequest(_Received):
    ready: bool | None = Field(default=None, description="whether to leave out what can't be served")


class _Sent(BaseModel):
    model_config = ConfigDict(frozen=True)


class DataParameters(_Sent):
    binary_data_size: int


class OutputTensor(_Sent):
    name: str
    datatype: str
    shape: list[int]
    parameters: DataParameters | SkipJsonSchema[None] = None
    data: list[Any] | SkipJsonSchema[None] = None


class InferResponse(_Sent):
    model_name: str
    model_version: str
    id: str | SkipJsonSchema[None] = None
    outputs: list[OutputTensor]


class ServerMetadata(_Sent):
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(_Sent):
    name: str
    datatype: str
    shape: list[int] = Field(description="-1 for a dimension of any size")


class ModelMetadata(_Sent):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata] = Field(description="alternatives: a request sends one of them")
    outputs: list[TensorMetadata]


class ServerLive(_Sent):
    live: bool


class ServerReady(_Sent):
    ready: bool


class ModelReady(_Sent):
    name: str
    ready: bool


class ModelIndex(_Sent):
    name: str
    version: str
    state: str = Field(examples=["READY", "UNAVAILABLE"])
    reason: str


class InferenceError(_Sent):
    """Every error of these routes."""

    error: str
