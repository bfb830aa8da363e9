"""Pictures for an index: as the model sees them, and as people do."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.manifest import InputSpec
from models.preprocess import ImageError, load_image
from training import pictures
from training.photos import collect
from training.pictures import Arrays, Look, Photos
from training.splits import DataError, Split

SPEC = InputSpec(height=8, width=8)


def _photo(path: Path, size: tuple[int, int] = (300, 100), orientation: int = 1) -> Path:
    """Red on the left, blue on the right as stored, with everything that a camera writes."""
    image = Image.new("RGB", size, (200, 0, 0))
    image.paste((0, 0, 200), (size[0] // 2, 0, *size))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "secret maker"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, exif=exif, comment=b"secret comment", icc_profile=b"secret profile")
    return path


def test_a_thumbnail_is_upright_small_and_says_nothing_of_its_camera(tmp_path: Path) -> None:
    path = _photo(tmp_path / "a.jpg", orientation=6)
    look = Photos(collect(tmp_path).train).look(0, SPEC, thumbnail=True)

    assert look.thumbnail is not None
    assert b"secret" in path.read_bytes()
    assert b"secret" not in look.thumbnail
    thumbnail = Image.open(io.BytesIO(look.thumbnail))
    assert (thumbnail.format, thumbnail.size, thumbnail.mode) == ("JPEG", (32, 96), "RGB")
    assert dict(thumbnail.getexif()) == {}
    top, bottom = (np.array(thumbnail.getpixel((16, y))) for y in (5, 90))
    assert (top[0], bottom[2]) == (pytest.approx(200, abs=15), pytest.approx(200, abs=15))
    np.testing.assert_array_equal(look.pixels, load_image(path.read_bytes(), SPEC))


def test_small_pictures_are_not_enlarged_and_transparent_ones_lie_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 10), (255, 0, 0, 0)).save(tmp_path / "a.png")
    look = Photos(collect(tmp_path).train).look(0, SPEC, thumbnail=True)
    assert look.thumbnail is not None
    thumbnail = Image.open(io.BytesIO(look.thumbnail))
    assert (thumbnail.size, thumbnail.getpixel((3, 3))) == ((20, 10), (255, 255, 255))


def test_looks_come_in_order_with_the_reasons_of_those_that_can_not_be_read(tmp_path: Path) -> None:
    for number in range(40):
        _photo(tmp_path / f"{number:02}.jpg", (20 + number, 30))
    (tmp_path / "07.jpg").write_bytes(b"no picture")
    (tmp_path / "09.jpg").unlink()
    (tmp_path / "09.jpg").symlink_to(tmp_path / "10.jpg")
    photos = Photos(collect(tmp_path).train)
    (tmp_path / "10.jpg").unlink()

    found = list(pictures.read(photos, SPEC, thumbnails=False))

    assert [number for number, _ in found] == list(range(40))
    assert [number for number, look in found if isinstance(look, ImageError)] == [7, 9, 10]
    assert all(look.thumbnail is None for _, look in found if isinstance(look, Look))
    assert photos.name(7) == str(tmp_path / "07.jpg")


def test_pictures_in_memory_of_the_models_size_are_taken_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    arrays = Arrays(Split(images, np.array([2, 0, 1])))
    look = arrays.look(1, SPEC, thumbnail=True)
    np.testing.assert_array_equal(look.pixels, images[1])
    assert look.thumbnail is not None
    assert Image.open(io.BytesIO(look.thumbnail)).size == (8, 8)
    assert arrays.look(1, InputSpec(height=4, width=6), thumbnail=False).pixels.shape == (4, 6, 3)
    np.testing.assert_array_equal(arrays.classes, [2, 0, 1])


def test_photos_in_folders_have_labels_and_those_beside_them_have_none(tmp_path: Path) -> None:
    for name in ("b/1.jpg", "b/deep/2.jpg", "a/1.jpg", "loose.jpg", "empty/notes.txt", ".hidden/1.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    listing = collect(tmp_path)
    assert [label.name for label in listing.labels] == ["a", "b"]
    found = [(photo.path.relative_to(tmp_path).as_posix(), photo.class_id) for photo in listing.train]
    assert found == [("loose.jpg", -1), ("a/1.jpg", 0), ("b/1.jpg", 1), ("b/deep/2.jpg", 1)]
    assert (listing.test, listing.ignored) == ((), (tmp_path / "empty" / "notes.txt",))


def test_one_class_is_enough_and_no_photo_is_not(tmp_path: Path) -> None:
    _photo(tmp_path / "cups" / "1.jpg")
    assert [label.name for label in collect(tmp_path).labels] == ["cups"]
    (tmp_path / "cups" / "1.jpg").unlink()
    with pytest.raises(DataError, match="there are no photos in"):
        collect(tmp_path)
