"""The published ImageNet weights, from the installed package: they know an espresso when they see one."""

from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.special import softmax

from models.files import file_sha256
from models.preprocess import load_image
from models.repository import ModelRepository
from training import backbones, imagenet
from training.splits import DataError

PICTURES = Path(__file__).parent.parent / "pictures"


@pytest.fixture(scope="module")
def weights() -> backbones.Weights:
    return backbones.read_weights(imagenet._packaged_weights())


@pytest.fixture(scope="module")
def network(weights: backbones.Weights) -> keras.Model:
    return backbones.efficientnet(weights)


def test_the_thousand_classes_are_in_the_order_of_imagenet() -> None:
    labels = imagenet.labels()

    assert len(labels) == 1000
    assert (labels[967].name, labels[967].id) == ("espresso", "n07920052")
    assert (labels[0].name, labels[0].id) == ("tench", "n01440764")
    ids = [label.id for label in labels]
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000


def test_the_packaged_weights_recognise_an_espresso(network: keras.Model) -> None:
    pixels = load_image((PICTURES / "espresso_cup.jpg").read_bytes(), imagenet.INPUT)

    logits = keras.ops.convert_to_numpy(network(pixels[None].astype("float32"), training=False)["logits"])

    probabilities = softmax(logits, axis=1)[0]
    assert imagenet.labels()[probabilities.argmax()].name == "espresso"
    assert probabilities.max() > 0.8


def test_every_array_of_the_package_goes_into_the_network(network: keras.Model, weights: backbones.Weights) -> None:
    used = [name for name in weights if not name.endswith("num_batches_tracked")]

    assert sum(weights[name].size for name in used) == network.count_params()
    moving_mean = network.get_layer("block5_project_bn").get_weights()[2]
    np.testing.assert_array_equal(moving_mean, weights["_blocks.5._bn2.running_mean"])


def test_an_npz_of_another_network_is_refused_and_nothing_published(tmp_path: Path, weights: backbones.Weights) -> None:
    np.savez(tmp_path / "resnet.npz", conv1=np.zeros((7, 7, 3, 64), np.float32))

    with pytest.raises(DataError, match=r"not the weights of EfficientNet-Lite0: '_conv_stem.weight'"):
        imagenet.import_imagenet(tmp_path / "resnet.npz", ModelRepository(tmp_path / "models"))
    assert not (tmp_path / "models").exists()
    with pytest.raises(DataError, match="not the weights of EfficientNet-Lite0: "):
        backbones.efficientnet({**weights, "_fc.bias": np.zeros(10, np.float32)})


@pytest.mark.parametrize("name", ["weights.npz", "weights.pth"])
@pytest.mark.parametrize("content", [None, b"", b"garbage", b"PK\x03\x04garbage"])
def test_a_weights_file_that_can_not_be_read_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError, match=rf"{name} can't be read as "):
        backbones.read_weights(tmp_path / name)


def test_without_the_package_the_error_says_what_to_install_or_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagenet, "_PACKAGE", "no_such_package")

    with pytest.raises(DataError, match=r"no_such_package is not installed .* \.npz file with --weights PATH"):
        imagenet.import_imagenet(None, ModelRepository(tmp_path))


def test_the_import_publishes_a_version_without_claims_about_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: keras.Model
) -> None:
    monkeypatch.setattr(imagenet, "_GOLDEN_CANDIDATES", 8)
    monkeypatch.setattr(backbones, "efficientnet", lambda weights: network)
    repository = ModelRepository(tmp_path)

    folder = imagenet.import_imagenet(None, repository)

    manifest = repository.read(folder)
    repository.verify(folder, manifest)
    assert (manifest.name, manifest.version, len(manifest.labels)) == ("imagenet", 1, 1000)
    assert (manifest.metrics, manifest.calibration.method, manifest.decision.abstention) == ((), "none", None)
    assert manifest.architecture.parameters == network.count_params()
    pretrained = manifest.provenance.pretrained
    assert pretrained is not None
    assert (pretrained.licence, pretrained.sha256) == ("Apache-2.0", file_sha256(imagenet._packaged_weights()))
    with np.load(folder.path / "golden.npz") as golden:
        assert np.array_equal(np.sort(golden["images"], axis=0), np.sort(imagenet._patterns(8), axis=0))
