"""Data sets: found, and read in the order of their files."""

import io
import os
import pickle
import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from models.manifest import InputSpec
from models.preprocess import load_image
from training import data
from training.splits import DataError


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
    monkeypatch.setattr(keras.datasets.cifar100, "load_data", no_network)


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
@pytest.mark.parametrize(
    ("name", "kind"), [("cifar10", "a tar file"), ("cifar100", "a tar file"), ("mnist", r"an \.npz file")]
)
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


def _cifar100_part(n: int, first: int) -> dict[bytes, object]:
    """Pictures in which red is their number, green 100 and blue 200 more; labels count down from `first`."""
    planes = np.zeros((n, 3, 32, 32), np.uint8)
    planes[:, 0] = np.arange(n)[:, None, None]
    planes[:, 1], planes[:, 2, 5, 7] = planes[:, 0] + 100, 200
    labels = [first - i for i in range(n)]
    return {
        b"data": planes.reshape(n, 3072),
        b"fine_labels": labels,
        b"coarse_labels": [0] * n,
        b"filenames": [b""] * n,
    }


def _write_cifar100(folder: Path, train: object, test: object, protocol: int = 4) -> Path:
    parts = {"train": train, "test": test}
    files = {f"cifar-100-python/{name}": pickle.dumps(part, protocol) for name, part in parts.items()}
    return _write_tar(folder / "cifar-100-python.tar.gz", {"cifar-100-python/meta": b"not opened", **files})


def test_cifar100_is_read_from_its_archive_with_fine_labels(tmp_path: Path) -> None:
    _write_cifar100(tmp_path, _cifar100_part(5, first=99), _cifar100_part(2, first=1))

    found = data.load("cifar100", tmp_path, InputSpec(height=224, width=224))

    assert (found.train.images.shape, found.train.images.dtype) == ((5, 32, 32, 3), np.uint8)
    assert found.train.images[3, 0, 0].tolist() == [3, 103, 0]
    assert found.train.images[3, 5, 7].tolist() == [3, 103, 200]
    assert (found.train.classes.tolist(), found.test.classes.tolist()) == ([99, 98, 97, 96, 95], [1, 0])
    assert found.train.classes.dtype == np.int64
    assert found.source == "CIFAR-100 from cifar-100-python.tar.gz"
    names = [label.name for label in found.labels]
    assert (len(names), names) == (100, sorted(set(names)))
    assert (names[0], names[1], names[23], names[58], names[99]) == (
        "apple", "aquarium_fish", "cloud", "pickup_truck", "worm"
    )  # fmt: skip


def test_the_archive_as_python_2_pickled_it_is_read_too(tmp_path: Path) -> None:
    """Protocol 2 with arrays of `numpy.core` and byte strings, which Python 3 no longer writes."""
    pixels = bytes(range(256)) * 12
    written = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00" + pixels + b"tb"
        b"U\x0bfine_labels](K*eu."
    )
    files = {f"cifar-100-python/{part}": written for part in ("train", "test")}
    _write_tar(tmp_path / "c.tar.gz", files)

    found = data.load("cifar100", tmp_path / "c.tar.gz")

    assert found.test.classes.tolist() == [42]
    assert found.test.images[0, 0, :3, 0].tolist() == [0, 1, 2]
    assert (found.test.images == np.frombuffer(pixels, np.uint8).reshape(1, 3, 32, 32).transpose(0, 2, 3, 1)).all()


class _Shell:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def test_a_pickle_that_asks_to_run_something_is_refused(tmp_path: Path) -> None:
    path = _write_cifar100(tmp_path, {b"data": _Shell()}, _cifar100_part(2, first=1))

    with pytest.raises(DataError, match=r"cifar-100-python\.tar\.gz, train: .*: \w+\.system has no place in it"):
        data.load("cifar100", path)

    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({b"data": np.zeros((2, 3072), np.int64)}, r"expected data uint8 \[2, 3072\], got int64 \[2, 3072\]"),
        ({b"data": np.zeros((3, 3072), np.uint8)}, r"expected data uint8 \[2, 3072\], got uint8 \[3, 3072\]"),
        ({b"fine_labels": [0, 100]}, "expected fine labels from 0 to 99"),
        ({b"data": None}, "NoneType"),
    ],
)
def test_a_cifar100_of_another_layout_is_refused(tmp_path: Path, changes: dict[bytes, object], what: str) -> None:
    path = _write_cifar100(tmp_path, _cifar100_part(2, first=1), {**_cifar100_part(2, first=1), **changes})

    with pytest.raises(DataError, match=f"test: not CIFAR-100 in its published layout: .*{what}"):
        data.load("cifar100", path)


def test_a_cifar100_archive_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    path = _write_tar(tmp_path / "c.tar.gz", {"cifar-100-python/train": pickle.dumps(_cifar100_part(1, first=0))})

    with pytest.raises(DataError, match=r"holds no files named cifar-100-python/train and cifar-100-python/test"):
        data.load("cifar100", path)


def test_keras_is_asked_for_cifar100_too(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = (np.zeros((2, 32, 32, 3), np.uint8), np.array([[3], [99]], np.uint8))
    monkeypatch.setattr(keras.datasets.cifar100, "load_data", lambda: (arrays, arrays))

    found = data.load("cifar100")

    assert (found.train.classes.tolist(), found.source) == ([3, 99], "CIFAR-100 from keras.datasets")


_CALTECH = "caltech101/101_ObjectCategories"


def _caltech101(lists: bool = True) -> dict[str, bytes]:
    """Two classes of six photos, and the clutter that is left out."""
    files = {
        f"{_CALTECH}/{name}/image_{i:04}.jpg": _jpeg(10 * k + i, size=(40 + i, 30))
        for k, name in enumerate(("yin_yang", "Faces", "BACKGROUND_Google"))
        for i in range(1, 7)
    }
    files[f"{_CALTECH}/BACKGROUND_Google/tmp"] = b"no picture"
    if lists:
        test = ["yin_yang/image_0003.jpg", "BACKGROUND_Google/image_0001.jpg", "Faces/image_0005.jpg"]
        names = [name.removeprefix(f"{_CALTECH}/") for name in files]
        files["caltech101/test.txt"] = "\n".join(test).encode()
        files["caltech101/train.txt"] = "\n".join(name for name in names if name not in test).encode()
    return files


def _lay_out(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("given", ["archive", "archive/caltech101.tar", "folder", "folder/caltech101"])
def test_caltech101_is_read_by_its_lists_without_clutter(tmp_path: Path, given: str) -> None:
    files, spec = _caltech101(), InputSpec(height=24, width=20, crop_fraction=0.9)
    (tmp_path / "archive").mkdir()
    _write_tar(tmp_path / "archive" / "caltech101.tar", files)
    _lay_out(tmp_path / "folder", files)

    found = data.load("caltech101", tmp_path / given, spec)

    assert [label.name for label in found.labels] == ["Faces", "yin_yang"]
    order = [f"Faces/image_000{i}" for i in (1, 2, 3, 4, 6)] + [f"yin_yang/image_000{i}" for i in (1, 2, 4, 5, 6)]
    expected = np.stack([load_image(files[f"{_CALTECH}/{name}.jpg"], spec) for name in order])
    np.testing.assert_array_equal(found.train.images, expected)
    assert (found.train.classes.tolist(), found.train.classes.dtype) == ([0] * 5 + [1] * 5, np.int64)
    assert (found.test.classes.tolist(), found.test.images.shape) == ([0, 1], (2, 24, 20, 3))
    assert (found.name, found.source) == ("caltech101", "Caltech-101")


def test_a_caltech101_without_lists_says_so(tmp_path: Path) -> None:
    _lay_out(tmp_path, _caltech101(lists=False))

    found = data.load("caltech101", tmp_path, InputSpec(height=8, width=8))

    assert (len(found.train), len(found.test)) == (10, 2)
    assert found.source == "Caltech-101, a fifth drawn for test"


def test_caltech101_needs_to_know_the_size() -> None:
    with pytest.raises(DataError, match="photos of many sizes; expected an input spec"):
        data.load("caltech101")


def test_the_folder_of_caltech101_is_unpacked_for_as_long_as_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_tar(tmp_path / "caltech101.tar", _caltech101())
    monkeypatch.setenv("DEMITASSE_DATA", str(tmp_path))

    with data.caltech101_folder(None) as folder:
        assert (folder / "test.txt").is_file()
        assert not folder.is_relative_to(tmp_path)
    assert not folder.parent.exists()

    _lay_out(tmp_path, _caltech101())
    with data.caltech101_folder(None) as folder:
        assert folder == tmp_path / "caltech101"
    assert (folder / "test.txt").is_file()


def test_nothing_of_an_archive_is_written_outside(tmp_path: Path) -> None:
    _write_tar(tmp_path / "caltech101.tar", {**_caltech101(), "../../escaped.jpg": b""})

    with pytest.raises(DataError, match=r"caltech101\.tar can't be unpacked as a tar file: .*escaped\.jpg.* outside"):
        data.load("caltech101", tmp_path, InputSpec(height=8, width=8))


def test_a_caltech101_of_something_else_or_none_at_all_is_named(tmp_path: Path) -> None:
    _write_tar(tmp_path / "caltech101.tar", {"other/cat/1.jpg": b""})
    with pytest.raises(DataError, match=r"holds no files named caltech101/101_ObjectCategories/<label>"):
        data.load("caltech101", tmp_path, InputSpec(height=8, width=8))

    with pytest.raises(DataError, match=r"caltech101\.tar is missing: .*data\. Give it with --data PATH"):
        data.load("caltech101", None, InputSpec(height=8, width=8))


def test_a_damaged_photo_of_a_data_set_is_named(tmp_path: Path) -> None:
    files = _caltech101()
    files[f"{_CALTECH}/Faces/image_0002.jpg"] = b"hello"
    _lay_out(tmp_path, files)

    with pytest.raises(DataError, match=r"Faces/image_0002\.jpg: expected one of JPEG"):
        data.load("caltech101", tmp_path, InputSpec(height=8, width=8))
