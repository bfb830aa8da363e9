"""Data sets: found, read in the order of their files, split without overlap, hashed."""

import io
import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from models.manifest import InputSpec, Label
from models.preprocess import load_image
from training import data
from training.data import DataError, Dataset, Split


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory without data, and no network: a download that is not expected fails."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.delenv("DEMITASSE_DATA", raising=False)

    def no_network() -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", no_network)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", no_network)


def _numbered(n: int) -> Split:
    """Pictures that carry their own number."""
    numbers = np.arange(n)
    images = np.zeros((n, 2, 2, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = numbers // 256, numbers % 256
    return Split(images, (numbers % 3).astype(np.int64))


def _numbers(split: Split) -> list[int]:
    return (split.images[:, 0, 0, 0].astype(int) * 256 + split.images[:, 0, 0, 1]).tolist()


def _dataset(n: int) -> Dataset:
    labels = tuple(Label(name=name) for name in "abc")
    return Dataset("numbers", "made up", labels, _numbered(n), _numbered(7))


def test_splits_share_no_picture_leave_none_out_and_keep_labels() -> None:
    splits = data.split(_dataset(1000), validation=10, calibration=200, decision=300)

    parts = (splits.train, splits.validation, splits.calibration, splits.decision)
    assert [len(part) for part in parts] == [490, 10, 200, 300]
    assert sorted(number for part in parts for number in _numbers(part)) == list(range(1000))
    for part in (*parts, splits.test):
        assert part.classes.tolist() == [number % 3 for number in _numbers(part)]
    assert _numbers(splits.test) == list(range(7))


def test_held_out_parts_are_drawn_at_random_but_always_alike() -> None:
    first, second = data.split(_dataset(1000), 10, 200, 300), data.split(_dataset(1000), 10, 200, 300)

    assert _numbers(first.decision) == _numbers(second.decision)
    assert _numbers(first.decision) != list(range(300))
    # A uniform draw of 300 from 0..999 has its mean within 4 standard errors of 499.5
    assert np.mean(_numbers(first.decision)) == pytest.approx(499.5, abs=4 * 289 / 300**0.5)


@pytest.mark.parametrize("n", [599, 600])
def test_something_must_be_left_to_train_on(n: int) -> None:
    with pytest.raises(DataError, match=f"numbers has {n} training pictures, 600 are to be held out"):
        data.split(_dataset(n), 100, 200, 300)

    assert len(data.split(_dataset(601), 100, 200, 300).train) == 1


def test_a_split_is_known_by_its_pixels_its_labels_and_their_order() -> None:
    split = _numbered(5)
    pixel, classes = split.images.copy(), split.classes.copy()
    pixel[4, 1, 1, 2] = 1
    classes[0] = 2
    variants = [Split(pixel, split.classes), Split(split.images, classes), Split(split.images[::-1], split.classes)]

    records = [each.record() for each in (split, *variants)]

    assert len({record.sha256 for record in records}) == 4
    assert [record.n for record in records] == [5] * 4
    assert _numbered(5).record() == records[0]


def _write_mnist(path: Path) -> None:
    x = np.arange(3 * 28 * 28, dtype=np.uint32).reshape(3, 28, 28).astype(np.uint8)
    y = np.array([7, 0, 9], np.uint8)
    np.savez(path, x_train=x, y_train=y, x_test=x[:2, ::-1], y_test=y[:2])


@pytest.mark.parametrize("given", ["folder", "folder/mnist.npz"])
def test_mnist_is_read_from_its_file_or_from_the_folder_that_holds_it(tmp_path: Path, given: str) -> None:
    (tmp_path / "folder").mkdir()
    _write_mnist(tmp_path / "folder" / "mnist.npz")

    found = data.load("mnist", tmp_path / given)

    assert (found.train.images.shape, found.train.images.dtype) == ((3, 28, 28, 3), np.uint8)
    assert (found.train.images == (np.arange(3 * 784).reshape(3, 28, 28, 1) % 256)).all()
    assert (found.test.images == found.train.images[:2, ::-1]).all()
    assert (found.train.classes.tolist(), found.train.classes.dtype) == ([7, 0, 9], np.int64)
    assert found.test.classes.tolist() == [7, 0]
    assert [label.name for label in found.labels] == list("0123456789")
    assert (found.name, found.source) == ("mnist", "MNIST from mnist.npz")


def test_without_a_path_the_environment_is_looked_at_before_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data").mkdir()
    Path("data/mnist.npz").write_bytes(b"damaged")
    _write_mnist(tmp_path / "mnist.npz")
    with pytest.raises(DataError, match=r"data/mnist.npz can't be read"):
        data.load("mnist")

    monkeypatch.setenv("DEMITASSE_DATA", str(tmp_path))
    assert len(data.load("mnist").train) == 3


def _jpeg(seed: int, size: tuple[int, int] = (32, 32)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(file, "JPEG", quality=75)
    return file.getvalue()


def _write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_cifar10_is_read_in_the_order_of_names_with_pixels_as_served(tmp_path: Path) -> None:
    files = {
        "cifar10/train/truck/0001.jpg": _jpeg(1),
        "cifar10/README": b"no picture",
        "cifar10/train/cat/0002.jpg": _jpeg(2),
        "cifar10/test/ship/0001.jpg": _jpeg(3),
        "cifar10/train/cat/0001.jpg": _jpeg(4, size=(48, 40)),
        "cifar10/train/unicorn/0001.jpg": b"of no class, so it is not opened",
        "cifar10/extra/cat/0001.jpg": b"of no split",
    }
    _write_tar(tmp_path / "cifar10.tar.gz", files)

    found = data.load("cifar10", tmp_path)

    order = ["cat/0001", "cat/0002", "truck/0001"]
    spec = InputSpec(height=32, width=32)
    expected = np.stack([load_image(files[f"cifar10/train/{name}.jpg"], spec) for name in order])
    np.testing.assert_array_equal(found.train.images, expected)
    assert (found.train.classes.tolist(), found.test.classes.tolist()) == ([3, 3, 9], [8])
    assert found.labels[9].name == "truck"
    assert found.source == "CIFAR-10, JPEG copy (quality 75, 4:2:0)"


def test_a_damaged_picture_of_an_archive_is_named(tmp_path: Path) -> None:
    _write_tar(tmp_path / "c.tar.gz", {"c/train/cat/0007.jpg": _jpeg(1)[:200], "c/test/cat/1.jpg": _jpeg(2)})

    with pytest.raises(DataError, match=r"c.tar.gz, cat/0007.jpg: the .*damaged or cut short"):
        data.load("cifar10", tmp_path / "c.tar.gz")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b\x08\x00damaged", b"PK\x03\x04damaged"])
@pytest.mark.parametrize(("name", "kind"), [("cifar10", "a tar file"), ("mnist", r"an \.npz file")])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, name: str, kind: str, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(DataError, match=f"file can't be read as {kind}: "):
        data.load(name, tmp_path / "file")


def test_an_archive_cut_short_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = _write_tar(tmp_path / "c.tar.gz", {f"c/{part}/cat/1.jpg": _jpeg(1) for part in ("train", "test")})
    path.write_bytes(path.read_bytes()[:300])

    with pytest.raises(DataError, match=r"c\.tar\.gz can't be read as a tar file"):
        data.load("cifar10", path)


def test_an_npz_of_something_else_is_answered_with_what_it_lacks(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros(3), y_test=np.zeros(3))

    with pytest.raises(DataError, match="not MNIST in Keras's layout: it lacks x_test, y_train"):
        data.load("mnist", tmp_path)


def test_a_path_that_was_given_is_the_only_place_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_mnist(tmp_path / "mnist.npz")
    monkeypatch.setenv("DEMITASSE_DATA", str(tmp_path))

    with pytest.raises(DataError, match=r"there is no file mnist.npz at .*nowhere; give the file itself"):
        data.load("mnist", tmp_path / "nowhere")


def test_missing_data_names_the_file_the_places_and_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMITASSE_DATA", str(tmp_path / "elsewhere"))

    with pytest.raises(DataError) as error:
        data.load("cifar10")

    message = str(error.value)
    assert message.startswith("cifar10.tar.gz is missing")
    for part in (str(tmp_path / "elsewhere"), str(tmp_path / "cwd" / "data"), "keras.datasets.cifar10", "--data PATH"):
        assert part in message
    assert "no route to host" in message


def test_keras_is_asked_where_no_file_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((4, 32, 32, 3), np.uint8)
    arrays = (images, np.array([[3], [1], [4], [1]], np.uint8)), (images[:1], np.array([[5]], np.uint8))
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: arrays)

    found = data.load("cifar10")

    assert (found.train.classes.tolist(), found.test.classes.tolist()) == ([3, 1, 4, 1], [5])
    assert (found.train.classes.dtype, found.source) == (np.int64, "CIFAR-10 from keras.datasets")
