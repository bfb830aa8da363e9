"""Folders of photos: what counts, what is refused, who tests, and how they are read."""

import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.manifest import InputSpec, Label
from models.preprocess import ImageError, UnreadableImage, UnsupportedImage
from training import photos
from training.photos import Listing, Photo
from training.splits import DataError

SPEC = InputSpec(height=4, width=6)


def _write(folder: Path, names: Iterable[str]) -> Path:
    """Files that need not be pictures: `scan` opens none."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def _numbered(name: str, n: int = 5) -> list[str]:
    return [f"{name}/{i}.jpg" for i in range(n)]


def _names(part: Iterable[Photo], root: Path) -> list[str]:
    return [photo.path.relative_to(root).as_posix() for photo in part]


def _all(listing: Listing, root: Path) -> list[str]:
    return sorted(_names(listing.train + listing.test, root))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return _write(tmp_path / "pets", [*_numbered("cat"), *_numbered("dog", 6)])


def test_labels_are_the_folders_as_they_are_called_in_the_order_of_names(tmp_path: Path) -> None:
    names = ["house_cat", "Zebra", "übung", "猫", "a b"]
    _write(tmp_path, [file for name in names for file in _numbered(name)])

    listing = photos.scan(tmp_path)

    assert [label.name for label in listing.labels] == ["Zebra", "a b", "house_cat", "übung", "猫"]
    for photo in listing.train + listing.test:
        assert photo.path.parent.name == listing.labels[photo.class_id].name
    assert _names(listing.train, tmp_path) == sorted(_names(listing.train, tmp_path))
    assert len(listing.train) == 20
    assert len(listing.test) == 5


def test_pictures_count_by_suffix_and_in_nested_folders_too(pets: Path) -> None:
    suffixes = ["jpg", "JPEG", "jfif", "png", "WebP", "GIF", "bmp", "tif", "TIFF"]
    _write(pets, [f"fox/{i}/deep/{i}.{suffix}" for i, suffix in enumerate(suffixes)])

    listing = photos.scan(pets)

    assert [label.name for label in listing.labels] == ["cat", "dog", "fox"]
    counts = Counter(photo.class_id for photo in listing.train + listing.test)
    assert counts == {0: 5, 1: 6, 2: 9}
    assert listing.ignored == ()


def test_what_systems_leave_behind_is_not_seen_and_other_files_are_reported(pets: Path) -> None:
    unseen = [
        ".DS_Store",
        "cat/.hidden.jpg",
        "cat/._0.jpg",
        "cat/.git/1.jpg",
        ".thumbnails/1.jpg",
        "__MACOSX/cat/0.jpg",
    ]
    _write(pets, [*unseen, "cat/Thumbs.db", "dog/desktop.ini", "dog/@eaDir/0.jpg", "README.md"])
    _write(pets, ["cat/notes.txt", "dog/more/0.heic", "lost.png"])
    (pets / "cat" / "broken.jpg").symlink_to(pets / "nowhere.jpg")

    listing = photos.scan(pets)

    assert _all(listing, pets) == sorted([*_numbered("cat"), *_numbered("dog", 6)])
    assert _names((Photo(path, 0) for path in listing.ignored), pets) == [
        "lost.png",
        "cat/broken.jpg",
        "cat/notes.txt",
        "dog/more/0.heic",
    ]


@pytest.mark.parametrize("inner", ["pets", "archive/pets"])
def test_a_single_folder_that_holds_the_classes_is_descended_into(tmp_path: Path, inner: str) -> None:
    root = _write(tmp_path / "given" / inner, [*_numbered("cat"), *_numbered("dog")])
    _write(tmp_path / "given", ["README.md", "__MACOSX/pets/cat/0.jpg"])

    assert _all(photos.scan(tmp_path / "given"), root) == [*_numbered("cat"), *_numbered("dog")]


@pytest.mark.parametrize("place", ["", "pets"])
def test_lists_are_found_in_the_folder_that_was_given_and_in_that_of_the_classes(tmp_path: Path, place: str) -> None:
    root = _write(tmp_path / "pets", [*_numbered("cat"), *_numbered("dog")])
    (tmp_path / place / "test.txt").write_text("dog/3.jpg\n")

    assert _names(photos.scan(tmp_path).test, root) == ["dog/3.jpg"]


def test_lists_say_who_trains_and_who_tests(pets: Path) -> None:
    (pets / "train.txt").write_text("dog/1.jpg\ncat/0.jpg\n\ncat/2.jpg\ncat/1.jpg\ndog/0.jpg\ndog/2.jpg\ndog/5.jpg\n")
    (pets / "test.txt").write_bytes("\ufeffdog\\4.jpg\r\n\r\n./cat/3.jpg\r\ncat/4.jpg  \r\ncat/4.jpg".encode())

    listing = photos.scan(pets)

    assert _names(listing.train, pets) == [*_numbered("cat", 3), "dog/0.jpg", "dog/1.jpg", "dog/2.jpg", "dog/5.jpg"]
    assert _names(listing.test, pets) == ["cat/3.jpg", "cat/4.jpg", "dog/4.jpg"]


@pytest.mark.parametrize(("alone", "other"), [("train", "test"), ("test", "train")])
def test_of_one_list_the_rest_is_the_other_part(pets: Path, alone: str, other: str) -> None:
    (pets / f"{alone}.txt").write_text("cat/1.jpg\ndog/0.jpg\n")

    listing = photos.scan(pets)

    assert _names(getattr(listing, alone), pets) == ["cat/1.jpg", "dog/0.jpg"]
    rest = sorted({*_numbered("cat"), *_numbered("dog", 6)} - {"cat/1.jpg", "dog/0.jpg"})
    assert _names(getattr(listing, other), pets) == rest


@pytest.mark.parametrize("lists", [("train",), ("train", "test")])
def test_of_classes_that_were_added_to_listed_ones_a_fifth_is_drawn(pets: Path, lists: tuple[str, ...]) -> None:
    (pets / "train.txt").write_text("cat/0.jpg\ncat/2.jpg\ncat/3.jpg\ncat/4.jpg\n")
    (pets / "test.txt").write_text("cat/1.jpg\n")
    for name in {"train", "test"} - set(lists):
        (pets / f"{name}.txt").unlink()

    listing = photos.scan(pets)

    trains, tests = _names(listing.train, pets), _names(listing.test, pets)
    assert [name for name in trains if name.startswith("cat")] == [f"cat/{i}.jpg" for i in (0, 2, 3, 4)]
    assert [name for name in tests if name.startswith("cat")] == ["cat/1.jpg"]
    assert sorted(name for name in (*trains, *tests) if name.startswith("dog")) == _numbered("dog", 6)
    assert len(tests) == 2
    assert photos.untested(listing) == []


@pytest.mark.parametrize("lists", [{"test": ["cat/0.jpg"]}, {"train": ["cat/1.jpg", *_numbered("dog", 6)]}])
def test_a_class_that_is_not_tested_is_named(pets: Path, lists: dict[str, list[str]]) -> None:
    for name, photos_of in lists.items():
        (pets / f"{name}.txt").write_text("\n".join(photos_of))

    (line,) = photos.untested(photos.scan(pets))

    assert line == "the lists leave no photo of 'dog' for testing: no figure says how well they are recognised"


@pytest.mark.parametrize(
    "line", ["../pets/cat/0.jpg", "cat/../../0.jpg", "/cat/0.jpg", "C:\\cat\\0.jpg", "\\\\pc\\0.jpg"]
)
def test_a_line_outside_the_folder_is_refused(pets: Path, line: str) -> None:
    (pets / "test.txt").write_text(f"cat/0.jpg\n\n{line}\n")

    with pytest.raises(DataError, match=r"test\.txt, line 3: expected class/file\.jpg inside .*pets, got "):
        photos.scan(pets)


def test_a_listed_file_that_is_missing_is_named(pets: Path) -> None:
    (pets / "train.txt").write_text("cat/0.jpg\ncat/7.jpg\n")

    with pytest.raises(DataError, match=r"train\.txt, line 2: there is no file 'cat/7\.jpg' in .*pets"):
        photos.scan(pets)


def test_a_listed_file_that_is_no_picture_is_ignored_as_elsewhere(pets: Path) -> None:
    _write(pets, ["cat/tmp"])
    (pets / "test.txt").write_text("cat/0.jpg\ncat/tmp\n")

    listing = photos.scan(pets)

    assert _names(listing.test, pets) == ["cat/0.jpg"]
    assert listing.ignored == (pets / "cat" / "tmp",)


def test_a_photo_in_both_lists_is_refused(pets: Path) -> None:
    (pets / "train.txt").write_text("cat/0.jpg\ndog/1.jpg\n")
    (pets / "test.txt").write_text("dog/0.jpg\ncat/2.jpg\ndog\\1.jpg\n")

    with pytest.raises(DataError, match=r"'dog/1\.jpg' is in line 2 of train\.txt and in line 3 of test\.txt"):
        photos.scan(pets)


def test_a_list_that_is_no_text_is_refused(pets: Path) -> None:
    (pets / "test.txt").write_bytes(b"cat/\xff.jpg")

    with pytest.raises(DataError, match=r"test\.txt is no text in UTF-8"):
        photos.scan(pets)


def test_lists_must_leave_photos_to_train_and_to_test(pets: Path) -> None:
    (pets / "test.txt").write_text("\n".join(_numbered("cat")))
    with pytest.raises(DataError, match="no photo to train on in 'cat'; "):
        photos.scan(pets)

    (pets / "test.txt").unlink()
    (pets / "train.txt").write_text("\n".join([*_numbered("cat"), *_numbered("dog", 6)]))
    with pytest.raises(DataError, match=r"train\.txt lists all photos and leaves none to test on"):
        photos.scan(pets)


def test_a_fifth_of_each_class_is_drawn_to_test(tmp_path: Path) -> None:
    sizes = {"five": 5, "seven": 7, "eight": 8, "hundred": 100}
    _write(tmp_path, [file for name, n in sizes.items() for file in _numbered(name, n)])

    listing = photos.scan(tmp_path)

    counts = Counter(photo.path.parent.name for photo in listing.test)
    assert counts == {"five": 1, "seven": 1, "eight": 2, "hundred": 20}
    assert len(_all(listing, tmp_path)) == len(set(_all(listing, tmp_path))) == 120
    numbers = [int(photo.path.stem) for photo in listing.test if photo.path.parent.name == "hundred"]
    assert sorted(numbers) != list(range(20))
    # A uniform draw of 20 from 0..99 has its mean within 4 standard errors of 49.5
    assert np.mean(numbers) == pytest.approx(49.5, abs=4 * 28.9 / 20**0.5)


def test_the_draw_depends_neither_on_the_place_nor_on_other_classes(tmp_path: Path) -> None:
    first = _write(tmp_path / "a", [*_numbered("cat", 50), *_numbered("dog", 50)])
    drawn = _names(photos.scan(first).test, first)
    second = tmp_path / "elsewhere" / "b"
    shutil.copytree(first, second)
    _write(second, [*_numbered("ant", 30), *_numbered("fox", 9)])

    listing = photos.scan(second)

    assert [name for name in _names(listing.test, second) if name.startswith(("cat", "dog"))] == drawn
    assert photos.scan(second) == listing
    # The same file names in another class are drawn anew
    cats, dogs = ({name[4:] for name in drawn if name.startswith(which)} for which in ("cat", "dog"))
    assert cats != dogs


def test_accents_may_stand_apart_from_their_letters(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Übung") for form in ("NFC", "NFD"))
    first = _write(tmp_path / "a", [*_numbered(composed, 30), *_numbered("x")])
    second = _write(tmp_path / "b", [*_numbered(apart, 30), *_numbered("x")])

    drawn = [photo.path.name for photo in photos.scan(second).test]
    assert drawn == [photo.path.name for photo in photos.scan(first).test]
    assert photos.scan(second).labels[1].name == apart

    (second / "test.txt").write_text(f"{composed}/7.jpg\n", encoding="utf-8")
    assert _names(photos.scan(second).test, second) == [f"{apart}/7.jpg"]


def test_classes_can_be_left_out_in_lists_too(pets: Path) -> None:
    _write(pets, ["clutter/0.jpg", "clutter/tmp", *_numbered("fox")])
    (pets / "test.txt").write_text("clutter/0.jpg\nclutter/gone.jpg\nfox/1.jpg\n")

    listing = photos.scan(pets, exclude=["clutter"])

    assert [label.name for label in listing.labels] == ["cat", "dog", "fox"]
    assert _names(listing.test, pets) == ["fox/1.jpg"]
    assert listing.test[0].class_id == 2
    assert listing.ignored == ()


def test_an_unknown_class_can_not_be_left_out(pets: Path) -> None:
    with pytest.raises(DataError, match=r"pets has no class 'horse' that could be left out; it has 'cat', 'dog'"):
        photos.scan(pets, exclude={"horse"})


def test_small_classes_are_refused_all_in_one_message(pets: Path) -> None:
    _write(pets, [*_numbered("fox", 4), "gnu/notes.txt"])

    with pytest.raises(
        DataError, match=r"at least 5 photos in each class in .*, got fewer in 'fox' \(4\), 'gnu' \(0\);"
    ):
        photos.scan(pets)

    assert len(photos.scan(pets, exclude={"fox", "gnu"}).labels) == 2


@pytest.mark.parametrize(
    ("files", "got"),
    [([], "none"), (["0.jpg", "1.jpg"], "none"), (_numbered("cat"), "'cat'"), (_numbered("cat/black"), "'black'")],
)
def test_fewer_than_two_classes_are_refused(tmp_path: Path, files: list[str], got: str) -> None:
    _write(tmp_path, files)

    with pytest.raises(DataError, match=f"expected a folder of photos for each of two classes or more .*; got {got}$"):
        photos.scan(tmp_path)


def test_parts_of_a_data_set_are_not_taken_for_classes(tmp_path: Path) -> None:
    _write(tmp_path, [*_numbered("Train/cat"), *_numbered("test/cat")])

    with pytest.raises(DataError, match=r"got parts of a data set: 'Train', 'test'; give one of them"):
        photos.scan(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*nowhere; expected one that holds"):
        photos.scan(tmp_path / "nowhere")


def test_links_that_lead_in_circles_end(pets: Path) -> None:
    (pets / "cat" / "up").symlink_to(pets, target_is_directory=True)
    (pets / "dog" / "self").symlink_to(pets / "dog", target_is_directory=True)
    (pets / "round").symlink_to(pets, target_is_directory=True)
    (pets / "cat" / "knot.jpg").symlink_to(pets / "cat" / "knot.jpg")

    listing = photos.scan(pets)

    assert [label.name for label in listing.labels] == ["cat", "dog"]
    assert len(listing.train + listing.test) == 11

    (pets.parent / "lone").mkdir()
    (pets.parent / "lone" / "self").symlink_to(pets.parent / "lone", target_is_directory=True)
    with pytest.raises(DataError, match="got none"):
        photos.scan(pets.parent / "lone")


def test_links_to_classes_and_to_photos_are_followed(pets: Path, tmp_path: Path) -> None:
    _write(tmp_path / "disk", _numbered("fox"))
    (pets / "fox").symlink_to(tmp_path / "disk" / "fox", target_is_directory=True)
    (pets / "cat" / "5.jpg").symlink_to(tmp_path / "disk" / "fox" / "0.jpg")

    listing = photos.scan(pets)

    assert _all(listing, pets) == [*_numbered("cat", 6), *_numbered("dog", 6), *_numbered("fox")]


@pytest.mark.skipif(os.name == "nt", reason="names of files are text there")
def test_a_folder_whose_name_is_no_text_is_refused(pets: Path) -> None:
    try:
        (pets / os.fsdecode(b"caf\xe9")).mkdir()
    except OSError:
        pytest.skip("this file system takes text only")

    with pytest.raises(DataError, match=r"the name of the folder 'caf\\udce9' in .* is no valid text; rename it"):
        photos.scan(pets)


def _pictures(folder: Path, n: int) -> list[Photo]:
    folder.mkdir(exist_ok=True)
    for i in range(n):
        Image.new("RGB", (9, 9), (i, 2 * i, 255 - i)).save(folder / f"{i}.png")
    return [Photo(folder / f"{i}.png", 0) for i in range(n)]


@pytest.mark.parametrize("workers", [1, 3])
def test_photos_are_decoded_in_order_whatever_can_not_be_read(tmp_path: Path, workers: int) -> None:
    chosen = _pictures(tmp_path, 60)
    chosen[7].path.write_bytes(chosen[7].path.read_bytes()[:45])
    chosen[40].path.write_bytes(b"hello, I am no picture")
    chosen[59].path.unlink()

    found = list(photos.decode(chosen, SPEC, workers))

    assert [index for index, _ in found] == list(range(60))
    for index, pixels in found:
        if not isinstance(pixels, ImageError):
            assert (pixels.shape, pixels.dtype) == ((4, 6, 3), np.uint8)
            assert (pixels == (index, 2 * index, 255 - index)).all()
    errors = {index: type(pixels) for index, pixels in found if isinstance(pixels, ImageError)}
    assert errors == {7: UnreadableImage, 40: UnsupportedImage, 59: UnreadableImage}
    assert "No such file" in str(found[59][1])


def test_no_photos_decode_to_nothing() -> None:
    assert list(photos.decode([], SPEC, workers=2)) == []


def test_few_photos_are_read_ahead_and_none_once_the_caller_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = _pictures(tmp_path, 1)[0]
    read = []

    def load_image(data: bytes, spec: InputSpec) -> np.ndarray:
        read.append(len(data))
        return np.zeros((4, 6, 3), np.uint8)

    monkeypatch.setattr(photos, "load_image", load_image)
    stream = photos.decode([picture] * 10_000, SPEC, workers=2)
    assert [index for index, _ in islice(stream, 100)] == list(range(100))
    stream.close()

    assert 100 <= len(read) <= 100 + 2 * 8


def test_few_unreadable_photos_are_borne_and_many_are_refused_by_name() -> None:
    bad = [(Path(f"cat/{i}.jpg"), "empty") for i in range(60)]
    photos.refuse_if_too_many([], 0)
    photos.refuse_if_too_many(bad[:5], 100)

    with pytest.raises(DataError) as error:
        photos.refuse_if_too_many(bad[:6], 100)
    assert str(error.value).startswith("6 of 100 photos can't be read, more than 5%; repair or remove them:\n")
    assert str(error.value).endswith("\n  cat/4.jpg: empty\n  cat/5.jpg: empty")

    with pytest.raises(DataError, match=r"\n  cat/9\.jpg: empty\n  and 50 more$"):
        photos.refuse_if_too_many(bad, 1000)


def _listing(sizes: dict[str, int]) -> Listing:
    found = [Photo(Path(f"{i}.jpg"), class_id) for class_id, n in enumerate(sizes.values()) for i in range(n)]
    return Listing(tuple(Label(name=name) for name in sizes), tuple(found[1:]), (found[0],))


def test_imbalance_names_the_smallest_and_the_largest_class() -> None:
    line = photos.imbalance(_listing({"cat": 40, "dog": 1500, "fox": 300}))
    assert line.splitlines() == [
        "smallest class: cat with 40 photos; largest: dog with 1,500, 37.5 times as many",
        "small classes are recognised less well than the accuracy says: more photos of them help most",
    ]

    assert photos.imbalance(_listing({"cat": 10, "dog": 25})) == (
        "smallest class: cat with 10 photos; largest: dog with 25, 2.5 times as many"
    )


def test_classes_of_equal_size_are_not_compared() -> None:
    assert photos.imbalance(_listing({"cat": 1200, "dog": 1200})) == "1,200 photos in each class"


def test_files_that_were_ignored_are_told_by_kind(pets: Path) -> None:
    assert photos.left_over(photos.scan(pets)) == []

    _write(pets, ["cat/IMG_1.heic", "cat/IMG_2.HEIC", "dog/notes", "lost.png"])
    assert photos.left_over(photos.scan(pets)) == [
        f"other files, ignored: 2 .heic, 1 .png, 1 without a suffix, such as {pets / 'lost.png'}; "
        "photos are JPEG, PNG, WEBP, GIF, BMP, TIFF, each in the folder of its class"
    ]

    _write(pets, [f"cat/{i}.x{i:02}" for i in range(12)])
    (line,) = photos.left_over(photos.scan(pets))
    assert line.startswith("other files, ignored: 2 .heic, ")
    assert ", 5 more, such as " in line
