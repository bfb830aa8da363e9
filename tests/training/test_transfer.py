"""`python -m training photos`: from a folder as people have it to a version that is served, and what may go wrong."""

import contextlib
import dataclasses
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openvino as ov
import pytest
from PIL import Image
from scipy.special import softmax

from models.manifest import InputSpec
from models.preprocess import load_image
from models.repository import ModelRepository
from training import backbones, checkpoint, devices, evaluate, export, features, photos, transfer
from training.__main__ import main
from training.checkpoint import Checkpoint
from training.features import Features
from training.photos import Photo
from training.recipe import Transfer
from training.splits import DataError, Split

# Keras's variables have an `__array__` of the times before NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHIPPED = Path(__file__).parents[2] / "models" / "imagenet"
CLASSES = {"Rötliches": (150, 95, 95), "blue things": (95, 95, 150), "green": (95, 150, 95)}
EACH = 16
INPUT = InputSpec(height=224, width=224, resize="stretch")


def _colours(folder: Path) -> Path:
    """Three kinds of coloured blots, some of them in doubt, among what else lies in such folders."""
    random = np.random.default_rng(4)
    for name, colour in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for i in range(EACH):
            blots = random.normal(random.normal(colour, 22), 25, (5, 7, 3)).clip(0, 255).astype(np.uint8)
            path = folder / name / f"{i:02}.{('jpg', 'png', 'WEBP', 'gif', 'bmp', 'tiff')[i % 6]}"
            Image.fromarray(blots).resize((90, 60 + i), Image.Resampling.BICUBIC).save(path)
    for other in ("Thumbs.db", ".hidden.jpg", "IMG_1.heic", "IMG_2.HEIC", "notes.txt"):
        (folder / "green" / other).write_bytes(b"no picture")
    (folder / "green" / "99.jpg").write_bytes((folder / "green" / "00.jpg").read_bytes()[:300])
    # A photo that tests once more, smaller, under a name that trains
    with Image.open(folder / "Rötliches" / "10.bmp") as picture:
        picture.resize((60, 50)).save(folder / "Rötliches" / "copy.png")
    return folder


def _main(*arguments: str | Path) -> SimpleNamespace:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def _published(models: Path) -> list[str]:
    return [
        f"{folder.name}/{folder.version}" for folder in ModelRepository(models).versions() if folder.name != "imagenet"
    ]


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A folder of photos, a repository that holds the shipped network, and a place for runs."""
    root = tmp_path_factory.mktemp("transfer")
    (root / "models").mkdir()
    (root / "models" / "imagenet").symlink_to(SHIPPED, target_is_directory=True)
    return SimpleNamespace(root=root, folder=_colours(root / "colours"), models=root / "models", runs=root / "runs")


@pytest.fixture(scope="module")
def frozen(place: SimpleNamespace) -> SimpleNamespace:
    """The command as people give it; with what it concluded from, and the features on the way."""
    seen: dict[str, Any] = {}

    def conclude(*outputs: Any) -> Any:
        seen["outputs"] = outputs
        return real_conclude(*outputs)

    def extract(*arguments: Any) -> Features:
        found = real_extract(*arguments)
        seen["features"] = Features(**{**vars(found), "pixels": np.array(found.pixels)})
        return found

    real_conclude, real_extract = transfer.conclude, features.extract
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "has_bfloat16", lambda: False)  # so that one can tell whose answers are exact
        patch.setattr(transfer, "conclude", conclude)
        patch.setattr(features, "extract", extract)
        done = _main("--models", place.models, "photos", place.folder, "--name", "colours", "--runs", place.runs)
    assert done.code == 0, done.err
    repository = ModelRepository(place.models)
    folder = repository.find("colours", 1)
    (run,) = (place.runs / "photos-colours").iterdir()
    return SimpleNamespace(**seen, done=done, folder=folder, manifest=repository.read(folder), run=run)


@pytest.fixture(scope="module")
def backbone() -> backbones.Backbone:
    return backbones.load("efficientnet_lite0", ModelRepository(SHIPPED.parent))


@pytest.fixture(scope="module")
def tuned(place: SimpleNamespace, frozen: SimpleNamespace, backbone: backbones.Backbone) -> SimpleNamespace:
    """Fine-tuning, interrupted once its epoch is done and gone on with."""
    command = ("--models", place.models, "photos", place.folder, "--name", "tuned", "--runs", place.runs, "--unfreeze")
    command = (*command, "--epochs", "1", "--small-epochs", "1", "--batch-size", "16")

    def conclude(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "load", lambda *_: backbone)
        patch.setattr(features, "extract", lambda *_: frozen.features)
        with pytest.MonkeyPatch.context() as interrupted:
            interrupted.setattr(transfer, "conclude", conclude)
            first = _main(*command)
        (run,) = (place.runs / "photos-tuned").iterdir()
        left = SimpleNamespace(published=_published(place.models), files=_files(run))
        done = _main(*command, "--resume")
    assert done.code == 0, done.err
    repository = ModelRepository(place.models)
    folder = repository.find("tuned", 1)
    return SimpleNamespace(first=first, left=left, done=done, run=run, folder=folder, manifest=repository.read(folder))


def _test_pixels(place: SimpleNamespace) -> np.ndarray:
    return np.stack([load_image(photo.path.read_bytes(), INPUT) for photo in photos.scan(place.folder).test])


def test_the_manifest_tells_what_was_learnt_from_what(place: SimpleNamespace, frozen: SimpleNamespace) -> None:
    manifest, record = frozen.manifest, frozen.manifest.provenance.dataset

    assert (manifest.name, manifest.version, manifest.description) == ("colours", 1, "Photos of colours")
    assert [label.name for label in manifest.labels] == ["Rötliches", "blue things", "green"]
    assert manifest.input == INPUT
    assert manifest.architecture.name == "efficientnet_lite0"
    assert manifest.provenance.recipe == "photos-colours"
    assert manifest.provenance.settings["epochs"] == 0
    shipped = ModelRepository(SHIPPED.parent)
    assert manifest.provenance.pretrained == shipped.read(shipped.find("imagenet")).provenance.pretrained
    assert {"golden.npz", "saved_model.pb", "openvino/model.xml"} <= manifest.files.keys()
    ModelRepository(place.models).verify(frozen.folder, manifest)

    listing = photos.scan(place.folder)
    assert (record.name, record.source) == ("photos-colours", "photos in colours")
    assert {part: split.n for part, split in record.splits.items()} == {"train": 40, "test": 9}
    tests = Split(_test_pixels(place), np.array([photo.class_id for photo in listing.test]))
    assert record.splits["test"] == tests.record()


def test_its_figures_are_those_of_the_test_photos(frozen: SimpleNamespace) -> None:
    _, _, test = frozen.outputs
    metrics = {metric.name: metric for metric in frozen.manifest.metrics}
    correct = test.logits.argmax(axis=1) == test.classes

    assert {"accuracy", "ece_equal_width", "negative_log_likelihood", "conformal_coverage"} <= metrics.keys()
    assert {metric.dataset for metric in metrics.values()} == {"photos in colours, test"}
    assert metrics["accuracy"].value == correct.mean() > 0.6  # of three classes
    each = [correct[test.classes == class_id].mean() for class_id in range(3)]
    assert metrics["mean_per_class_accuracy"].value == pytest.approx(np.mean(each))


def test_confidences_are_calibrated_on_every_training_photo_once(frozen: SimpleNamespace) -> None:
    calibration, decision, _ = frozen.outputs

    assert len(calibration.classes) + len(decision.classes) == frozen.manifest.provenance.dataset.splits["train"].n
    assert abs(len(calibration.classes) - len(decision.classes)) <= 3
    assert frozen.manifest.calibration.fitted_on == (
        "photos in colours, half of the training photos, cross-fitted in 5 folds, a"
    )
    assert frozen.manifest.decision.conformal.dataset.endswith("cross-fitted in 5 folds, b")


def test_both_engines_answer_what_the_head_said_of_the_test_photos(
    place: SimpleNamespace, frozen: SimpleNamespace
) -> None:
    _, _, test = frozen.outputs
    pixels = _test_pixels(place)
    expected = softmax(test.logits / frozen.manifest.calibration.temperature, axis=1)

    served = evaluate.predict(frozen.folder.path, pixels)
    core = ov.Core()
    network = core.compile_model(
        frozen.folder.path / "openvino" / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )

    tolerance = frozen.manifest.golden_tolerance["f32"]
    np.testing.assert_allclose(served, expected, rtol=0, atol=tolerance / 4)
    found = network({"images": pixels, "class_ids": np.zeros(len(pixels), np.int32)})["probabilities"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    assert np.ptp(expected, axis=0).min() > 5 * tolerance  # the photos differ by more than that hides


def test_who_runs_it_is_told_what_was_found_and_what_was_left_out(
    place: SimpleNamespace, frozen: SimpleNamespace
) -> None:
    assert frozen.done.err == ""
    lines = frozen.done.out.splitlines()
    assert lines[0] == "41 photos to train on, 9 to test on, 3 classes"
    assert lines[1].startswith("smallest class: blue things with 16 photos; largest: ")
    assert lines[2].startswith(
        f"other files, ignored: 2 .heic, 1 .txt, such as {place.folder / 'green' / 'IMG_1.heic'}; "
    )
    assert lines[3].startswith(
        f"skipped {place.folder / 'green' / '99.jpg'}: the picture's header is damaged or cut sh"
    )
    assert lines[4] == "photos to test on that look like one to train on, so that test figures may flatter: 1"
    reds = place.folder / "Rötliches"
    assert lines[5] == f"  {reds / '10.bmp'} ~ {reds / 'copy.png'}"
    assert "calibrated on 20 photos only" in lines[6]
    assert lines[7].startswith("'reliable' will be null: 20 photos")
    assert lines[8].startswith(f"published colours version 1 in {frozen.folder.path}: accuracy ")
    assert lines[8].endswith("n = 9 (photos in colours, test)")
    assert lines[9:] == [f"report: {frozen.run / 'report.html'}"]


def test_a_run_leaves_its_recipe_and_its_report_and_no_pixels(place: SimpleNamespace, frozen: SimpleNamespace) -> None:
    assert {path.name for path in frozen.run.iterdir()} == {"recipe.json", "report.html"}
    page = (frozen.run / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in CLASSES)
    assert [path.name for path in place.models.iterdir() if path.name.startswith(".")] == []


def test_an_interrupted_run_publishes_nothing_and_leaves_what_it_needs_to_go_on(tuned: SimpleNamespace) -> None:
    assert (tuned.first.code, tuned.first.err) == (130, "interrupted; nothing was published\n")
    assert tuned.left.published == ["colours/1"]
    assert tuned.left.files == {"recipe.json", "photos.json", "history.csv", "checkpoint.npz"}
    assert "val_accuracy" in tuned.first.out
    assert "val_accuracy" not in tuned.done.out
    assert [epoch.epoch for epoch in checkpoint.figures(tuned.run)] == [1]


def test_fine_tuning_holds_photos_out_and_says_which(tuned: SimpleNamespace) -> None:
    record, manifest = tuned.manifest.provenance.dataset, tuned.manifest

    assert {part: split.n for part, split in record.splits.items()} == {
        "train": 34, "calibration": 2, "decision": 4, "test": 9,
    }  # fmt: skip
    assert len({split.sha256 for split in record.splits.values()}) == 4
    assert manifest.calibration.fitted_on == "photos in colours, held out for calibration"
    assert manifest.calibration.n == 2
    assert "confidences are calibrated on 2 photos only" in tuned.done.out
    assert manifest.provenance.settings["epochs"] == 1
    assert {metric.name for metric in manifest.metrics} >= {"accuracy", "mean_per_class_accuracy"}


def test_fine_tuning_changes_the_upper_half_alone(tuned: SimpleNamespace, backbone: backbones.Backbone) -> None:
    network = backbones.restore(tuned.folder, tuned.manifest)
    moved = set()
    for ours, theirs in zip(network.layers, backbone.network.layers, strict=True):
        if any(
            a.shape == b.shape and (a != b).any() for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True)
        ):
            moved.add(ours.name.split("_")[0])

    assert moved == {*(f"block{i}" for i in range(5, 16)), "head"}
    assert not any("bn" in name for name in moved)


def test_a_run_does_not_go_on_with_other_photos(frozen: SimpleNamespace, tmp_path: Path) -> None:
    parts = {"train": np.arange(30), "test": np.arange(30, 40)}
    state = Checkpoint(tmp_path)
    transfer._refuse_other_photos(frozen.features, parts, state)
    transfer._refuse_other_photos(frozen.features, parts, state)

    for others in ({"train": np.arange(29), "test": np.arange(30, 40)}, {"train": np.arange(40)}):
        with pytest.raises(DataError, match="began with other photos than there are now; start without --resume"):
            transfer._refuse_other_photos(frozen.features, others, state)


def test_a_damaged_record_of_the_photos_is_named(frozen: SimpleNamespace, tmp_path: Path) -> None:
    state, parts = Checkpoint(tmp_path), {"train": np.arange(30), "test": np.arange(30, 40)}
    transfer._refuse_other_photos(frozen.features, parts, state)
    path = tmp_path / "photos.json"
    path.write_bytes(path.read_bytes()[:50])

    with pytest.raises(DataError, match=r"photos\.json is damaged: .*; start without --resume"):
        transfer._refuse_other_photos(frozen.features, parts, state)


@pytest.fixture
def start(place: SimpleNamespace, tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """The command in a place of its own, with what it left behind."""

    def run(*arguments: str | Path, folder: Path = place.folder, name: str = "new") -> SimpleNamespace:
        where = ("--models", place.models, "photos", folder, "--name", name, "--runs", tmp_path / "runs")
        done = _main(*where, *arguments)
        left = _files(tmp_path / "runs") if (tmp_path / "runs").is_dir() else set()
        return SimpleNamespace(
            **vars(done), left={Path(name).name for name in left}, published=_published(place.models)
        )

    return run


@pytest.fixture
def unlike(tmp_path: Path) -> Path:
    """Folders that can't be used: `file`, `one` class, `few` photos, photos of another `kind`."""
    names = ["one/cat/0.jpg", *(f"few/{name}/{i}.jpg" for name in ("cat", "dog") for i in range(4))]
    names += [f"kind/{name}/{i}.heic" for name in ("cat", "dog") for i in range(7)]
    for name in ("file", *names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folder": "nowhere"}, "there is no folder "),
        ({"folder": "file"}, "there is no folder "),
        ({"folder": "one"}, "expected a folder of photos for each of two classes or more in "),
        ({"folder": "few"}, "expected at least 5 photos in each class in "),
        ({"folder": "kind"}, "expected at least 5 photos in each class in "),
        ({"name": "My Model"}, "model: "),
        ({"name": "../x"}, "model: "),
        ({"arguments": ["--batch-size", "3", "--epochs", "0"]}, "--batch-size is one of fine-tuning: give --unfreeze"),
        ({"arguments": ["--small-epochs", "3"]}, "--small-epochs is one of fine-tuning: give --unfreeze too"),
        ({"arguments": ["--unfreeze", "--epochs", "0"]}, "--unfreeze needs --epochs of 1 or more"),
        ({"arguments": ["--unfreeze", "--epochs", "-1"]}, "epochs: "),
        ({"arguments": ["--exclude", "horse"]}, "{place} has no class 'horse' that could be left out; "),
        ({"arguments": ["--backbone", "vgg16"]}, "backbone: "),
        ({"arguments": ["--seed", "-1"]}, "seed: "),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_one_line_before_any_work_starts(
    start: Callable[..., SimpleNamespace], place: SimpleNamespace, unlike: Path, monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any], message: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(backbones, "load", lambda *_: pytest.fail("work started"))
    if "folder" in changes:
        changes = {**changes, "folder": unlike / changes["folder"]}

    done = start(*changes.pop("arguments", ()), **changes)

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: {message.format(place=place.folder)}")
    assert done.err.count("\n") == 1
    assert done.left == set()


def test_photos_that_no_one_can_read_here_do_not_vanish_silently(
    start: Callable[..., SimpleNamespace], unlike: Path
) -> None:
    done = start(folder=unlike / "kind")

    assert "got fewer in 'cat' (0), 'dog' (0); add photos or leave these classes out with --exclude; " in done.err
    assert "other files, ignored: 14 .heic, such as " in done.err
    assert "photos are JPEG, PNG, WEBP, GIF, BMP, TIFF, each in the folder of its class" in done.err


def test_missing_weights_are_told_with_the_way_to_get_them(
    start: Callable[..., SimpleNamespace], place: SimpleNamespace, tmp_path: Path
) -> None:
    assert start("--weights", tmp_path / "gone.pth").err == (
        f"error: {tmp_path / 'gone.pth'} can't be read as weights: No such file or directory\n"
    )

    done = _main("--models", tmp_path / "empty", "photos", place.folder, "--name", "new", "--runs", tmp_path / "runs")
    assert done.code == 1
    assert done.err.startswith("error: the weights of efficientnet_lite0 are missing: run `python -m training import-")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_place_for_runs_that_can_not_be_written_to_is_named(
    start: Callable[..., SimpleNamespace], backbone: backbones.Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "load", lambda *_: backbone)
    (tmp_path / "runs").write_text("a file")

    done = start()

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: [Errno ")
    assert str(tmp_path / "runs") in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: [Errno 28] No space left on device\n"),
        (DataError("3 of 9 photos can't be read"), 1, "error: 3 of 9 photos can't be read\n"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was published\n"),
    ],
)
def test_features_that_end_early_leave_no_pixels_and_no_version(
    start: Callable[..., SimpleNamespace], backbone: backbones.Backbone, monkeypatch: pytest.MonkeyPatch,
    error: BaseException, code: int, message: str,
) -> None:  # fmt: skip
    def extract(_listing: object, _spec: object, _network: object, scratch: Path) -> Features:
        assert [path.name for path in scratch.parent.glob("pixels-*")] == [scratch.name]
        (scratch / "pixels").write_bytes(b"many")
        raise error

    def new(*given: Any) -> Checkpoint:
        state = Checkpoint(begun(*given).folder)
        (state.folder / "pixels-killed").mkdir()  # as a run that was killed leaves them to the one that goes on
        (state.folder / "pixels-killed" / "pixels").write_bytes(b"many")
        return state

    begun = checkpoint.new
    monkeypatch.setattr(checkpoint, "new", new)
    monkeypatch.setattr(backbones, "load", lambda *_: backbone)
    monkeypatch.setattr(features, "extract", extract)
    before = start(folder=Path("nowhere")).published

    done = start()

    assert (done.code, done.err) == (code, message)
    assert done.left == {"recipe.json"}
    assert done.published == before


def test_a_version_that_is_not_what_was_trained_is_not_published(
    start: Callable[..., SimpleNamespace], frozen: SimpleNamespace, backbone: backbones.Backbone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def publish(*_: object) -> None:
        raise export.ExportError("the SavedModel differs")

    monkeypatch.setattr(backbones, "load", lambda *_: backbone)
    monkeypatch.setattr(features, "extract", lambda *_: frozen.features)
    monkeypatch.setattr(export, "publish", publish)

    done = start()

    assert (done.code, done.err) == (1, "error: the SavedModel differs\n")
    assert done.left == {"recipe.json"}
    assert "new/1" not in done.published


def test_the_name_of_a_backbone_can_not_be_taken(
    start: Callable[..., SimpleNamespace], backbone: backbones.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next network would begin with it."""
    monkeypatch.setattr(backbones, "load", lambda *_: backbone)
    monkeypatch.setattr(features, "extract", lambda *_: pytest.fail("work started"))

    done = start(name="imagenet")

    assert (done.code, done.err) == (1, "error: imagenet is the name of a backbone; choose another --name\n")


def _features(classes: list[int]) -> Features:
    """Of photos of noise."""
    n, random = len(classes), np.random.default_rng(0)
    return Features(
        tuple(Photo(Path(f"{i}.jpg"), class_id) for i, class_id in enumerate(classes)),
        random.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8),
        random.normal(size=(n, 6)).astype(np.float32),
        random.integers(0, 2**63, n, dtype=np.uint64),
        np.array(classes),
        (),
    )


RECIPE = Transfer(model="m", description="", epochs=2)


def test_too_few_photos_to_hold_some_out_are_refused(backbone: backbones.Backbone, tmp_path: Path) -> None:
    found = _features([0] * 5 + [1] * 5)

    with pytest.raises(DataError, match=r"^8 photos are too few to hold some out; leave --unfreeze out$"):
        transfer._fine_tuned(
            backbone.network, found, 2, np.arange(8), np.arange(8, 10), RECIPE, "", Checkpoint(tmp_path), ()
        )


def test_what_is_held_out_is_spread_over_the_classes_and_in_no_other_part() -> None:
    classes = np.repeat(np.arange(5), [100, 40, 200, 7, 20])

    kept, calibration, decision = transfer._held_out(classes, RECIPE)

    assert sorted([*kept, *calibration, *decision]) == list(range(367))
    assert (len(calibration), len(decision)) == (19, 36)
    for class_id, n in enumerate((100, 40, 200, 7, 20)):
        held_out = sum((classes[rows] == class_id).sum() for rows in (calibration, decision))
        assert held_out == pytest.approx(0.15 * n, abs=1)
    again, other = (transfer._held_out(classes, RECIPE.model_copy(update={"seed": seed}))[1] for seed in (0, 1))
    assert again.tolist() == calibration.tolist() != other.tolist()


@pytest.mark.parametrize("left", [0, 4])
def test_a_class_that_lost_nearly_all_its_photos_is_named(place: SimpleNamespace, left: int) -> None:
    listing = photos.scan(place.folder)
    blue = [photo for photo in (*listing.train, *listing.test) if photo.class_id == 1]
    kept = [photo for photo in (*listing.train, *listing.test) if photo not in blue[left:]]
    found = _features([photo.class_id for photo in kept])
    found = Features(**{**vars(found), "photos": tuple(kept)})

    message = rf"^expected at least 5 photos that can be read in each class, got fewer in 'blue things' \({left}\); "
    with pytest.raises(DataError, match=message):
        transfer._parts(found, listing)


def test_a_class_whose_photos_to_train_on_are_unreadable_is_named(place: SimpleNamespace) -> None:
    names = [path.relative_to(place.folder).as_posix() for path in (place.folder / "blue things").iterdir()][:6]
    listing = photos.scan(place.folder)
    chosen = {place.folder / name for name in names}
    every = (*listing.train, *listing.test)
    listing = dataclasses.replace(
        listing,
        train=tuple(photo for photo in every if photo.path not in chosen),
        test=tuple(photo for photo in every if photo.path in chosen),
    )
    kept = [photo for photo in every if photo.class_id != 1 or photo.path in chosen]
    found = Features(**{**vars(_features([photo.class_id for photo in kept])), "photos": tuple(kept)})

    with pytest.raises(DataError, match=r"^no readable photo is left to train on in blue things$"):
        transfer._parts(found, listing)


def test_pictures_of_another_size_are_seen_with_the_same_weights(backbone: backbones.Backbone) -> None:
    smaller = transfer.resized(backbone.network, 64, 96)

    assert transfer.resized(backbone.network, 224, 224) is backbone.network
    assert smaller.input_shape == (None, 64, 96, 3)
    for ours, theirs in zip(smaller.get_weights(), backbone.network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.skipif(os.name == "nt", reason="names of files are text there")
def test_name_of_the_folder_may_be_any_bytes() -> None:
    assert transfer._source(RECIPE, Path(os.fsdecode(b"/photos/caf\xe9"))) == "photos in caf?"
