"""What a version looks like in this protocol: its tensors, each with a name, a datatype and a shape."""

from app.api.protocols.v2.bodies import TensorMetadata
from models.manifest import Manifest

PLATFORM = "tensorflow_savedmodel"

FILES, PIXELS = "image", "images"
PROBABILITIES, LABEL = "probabilities", "label"

ANY_SIZE = -1


def inputs(manifest: Manifest) -> list[TensorMetadata]:
    """The alternatives, of which a request sends one."""
    spec = manifest.input
    return [
        TensorMetadata(name=FILES, datatype="BYTES", shape=[ANY_SIZE]),
        TensorMetadata(name=PIXELS, datatype="UINT8", shape=[ANY_SIZE, spec.height, spec.width, 3]),
    ]


def outputs(manifest: Manifest) -> list[TensorMetadata]:
    return [
        TensorMetadata(name=PROBABILITIES, datatype="FP32", shape=[ANY_SIZE, len(manifest.labels)]),
        TensorMetadata(name=LABEL, datatype="BYTES", shape=[ANY_SIZE]),
    ]
