"""Figures: against values made by hand; and folders of photos, by the names that people give them."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from models.manifest import Abstention, Conformal, Decision, Label, Manifest
from models.preprocess import load_image
from training import evaluate
from training.splits import DataError


def test_a_share_has_its_wilson_interval() -> None:
    # Newcombe 1998, table I: 81 of 263
    metric = evaluate.share("accuracy", np.arange(263) < 81, "some data, test")

    assert (metric.name, metric.n, metric.dataset, metric.interval) == ("accuracy", 263, "some data, test", "wilson")
    assert metric.value == 81 / 263
    assert (round(metric.low, 4), round(metric.high, 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize(("hit", "low", "high"), [(True, 0.7225, 1.0), (False, 0.0, 0.2775)])
def test_all_or_none_still_have_an_interval_that_holds_the_value(hit: bool, low: float, high: float) -> None:
    metric = evaluate.share("accuracy", np.full(10, hit), "d")

    assert (metric.value, round(metric.low, 4), round(metric.high, 4)) == (float(hit), low, high)


def test_figures_of_a_small_example_are_those_made_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32)
    classes = np.array([0, 1, 1, 1])

    found = {metric.name: metric for metric in evaluate.figures(probabilities, classes, "d")}

    assert list(found) == ["accuracy", "ece_equal_width", "ece_equal_mass", "negative_log_likelihood"]
    assert found["accuracy"].value == 0.75
    # Four bins with one example each: gaps of 0.1, 0.2, 0.6 and 0.3
    assert found["ece_equal_width"].value == pytest.approx(1.2 / 4)
    assert found["ece_equal_mass"].value == pytest.approx(1.2 / 4)
    losses = -np.log([0.9, 0.8, 0.4, 0.7])
    assert found["negative_log_likelihood"].value == pytest.approx(losses.mean())
    assert found["negative_log_likelihood"].high == pytest.approx(losses.mean() + 1.96 * losses.std() / 2)
    assert all((metric.n, metric.dataset) == (4, "d") for metric in found.values())
    assert evaluate.figures(probabilities, classes, "d") == tuple(found.values())  # the bootstrap is seeded


def test_the_best_five_count_where_there_are_more_than_ten_classes() -> None:
    probabilities = np.tile(np.arange(11, dtype=np.float32) / 55, (4, 1))
    classes = np.array([10, 6, 5, 0])  # first, fifth, sixth and last

    found = {metric.name: metric.value for metric in evaluate.figures(probabilities, classes, "d")}

    assert (found["accuracy"], found["top_5_accuracy"]) == (0.25, 0.5)


def _decision(threshold: float | None, quantile: float | None) -> Decision:
    abstention = None if threshold is None else Abstention(
        threshold=threshold, target_risk=0.1, confidence_level=0.95, coverage=0.5, n=9, dataset="other data"
    )  # fmt: skip
    conformal = None if quantile is None else Conformal(alpha=0.1, quantile=quantile, n=9, dataset="other data")
    return Decision(abstention=abstention, conformal=conformal)


def test_decision_figures_count_what_is_accepted_wrong_and_covered() -> None:
    probabilities = np.array([[0.875, 0.125], [0.25, 0.75], [0.75, 0.25], [0.4375, 0.5625]], np.float32)
    classes = np.array([0, 1, 1, 1])

    found = evaluate.decision_figures(probabilities, classes, _decision(0.75, 0.4375), "d")

    # Three are at or above 0.75, the third of them wrong; of the true classes, 0.25 alone scores more than 0.4375
    assert [(metric.name, metric.value, metric.n) for metric in found] == [
        ("coverage_at_threshold", 0.75, 4),
        ("risk_at_threshold", 1 / 3, 3),
        ("conformal_coverage", 0.75, 4),
    ]


def test_there_is_no_risk_where_nothing_is_accepted_and_nothing_without_a_decision() -> None:
    probabilities, classes = np.array([[0.5, 0.5]], np.float32), np.array([0])

    found = evaluate.decision_figures(probabilities, classes, _decision(0.9, None), "d")

    assert [(metric.name, metric.value) for metric in found] == [("coverage_at_threshold", 0.0)]
    assert evaluate.decision_figures(probabilities, classes, _decision(None, None), "d") == ()


@pytest.mark.parametrize("n", [1, 64, 130])
def test_predictions_do_not_depend_on_where_batches_end(minute: SimpleNamespace, n: int) -> None:
    images = minute.dataset.train.images[:130]

    together = evaluate.predict(minute.folder.path, images[:n])

    assert (together.shape, together.dtype) == ((n, 4), np.float32)
    ends = [i for i in (0, 63, 64, 127, 128, 129) if i < n]
    alone = np.concatenate([evaluate.predict(minute.folder.path, images[i : i + 1]) for i in ends[-2:]])
    np.testing.assert_allclose(together[ends[-2:]], alone, atol=1e-5)


def _manifest(minute: SimpleNamespace, *labels: Label) -> Manifest:
    manifest: Manifest = minute.manifest
    return manifest.model_copy(update={"labels": labels})


def _picture(path: Path, colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 30), colour).save(file, "PNG")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(file.getvalue())
    return file.getvalue()


LABELS = (Label(name="Hot dog", id="n07697537"), Label(name="tea_cup", id="x_1"), Label(name="crane", id="n2"))


@pytest.mark.parametrize(
    ("folder", "class_id"),
    [
        ("Hot dog", 0), ("hot_dog", 0), ("HOT DOG", 0), ("n07697537", 0), ("N07697537", 0), ("0", 0),
        ("tea_cup", 1), ("Tea_Cup", 1), ("x_1", 1), ("X_1", 1), ("1", 1), ("crane", 2), ("n2", 2), ("2", 2),
    ],
)  # fmt: skip
def test_a_folder_is_named_by_label_by_id_or_by_number(
    minute: SimpleNamespace, tmp_path: Path, folder: str, class_id: int
) -> None:
    _picture(tmp_path / folder / "a.png", "red")

    assert evaluate.load_folder(tmp_path, _manifest(minute, *LABELS)).classes.tolist() == [class_id]


def test_pictures_come_as_the_input_of_the_model_and_other_files_are_left_alone(
    minute: SimpleNamespace, tmp_path: Path
) -> None:
    first = _picture(tmp_path / "crane" / "1.PNG", "blue")
    second = _picture(tmp_path / "hot_dog" / "2.png", "green")
    (tmp_path / "crane" / "notes.txt").write_text("by the river")
    (tmp_path / "stray.png").write_bytes(b"in no folder of a class")

    found = evaluate.load_folder(tmp_path, _manifest(minute, *LABELS))

    expected = np.stack([load_image(data, minute.manifest.input) for data in (first, second)])
    np.testing.assert_array_equal(found.images, expected)
    assert (found.classes.tolist(), found.classes.dtype) == ([2, 0], np.int64)


def test_a_name_of_two_classes_asks_for_the_id(minute: SimpleNamespace, tmp_path: Path) -> None:
    _picture(tmp_path / "crane" / "a.png", "red")

    with pytest.raises(DataError, match="'crane' is the name of 2 classes; name the folder by the label's id"):
        evaluate.load_folder(tmp_path, _manifest(minute, *LABELS, Label(name="crane", id="n3")))


@pytest.mark.parametrize("folder", ["heron", "3", "-1"])
def test_a_folder_of_no_class_is_an_error_with_an_example(minute: SimpleNamespace, tmp_path: Path, folder: str) -> None:
    _picture(tmp_path / folder / "a.png", "red")

    with pytest.raises(DataError, match=f"no class is called '{folder}'; expected a label such as 'Hot dog'"):
        evaluate.load_folder(tmp_path, _manifest(minute, *LABELS))


def test_a_picture_that_can_not_be_read_is_named_and_so_is_a_folder_without_any(
    minute: SimpleNamespace, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"{tmp_path} holds no pictures in folders named after classes of minute"):
        evaluate.load_folder(tmp_path, _manifest(minute, *LABELS))

    _picture(tmp_path / "crane" / "a.png", "red")
    (tmp_path / "crane" / "b.jpg").write_bytes(b"\xff\xd8\xff and no more")
    with pytest.raises(DataError, match=r"crane/b\.jpg: the picture's header is damaged"):
        evaluate.load_folder(tmp_path, _manifest(minute, *LABELS))


def test_mean_per_class_accuracy_counts_small_classes_as_much_as_large_ones() -> None:
    classes = np.array([0] * 90 + [1] * 10)
    predicted = np.array([0] * 90 + [1] * 4 + [0] * 6)

    metric = evaluate.mean_per_class(predicted, classes, "made up")

    assert metric.value == pytest.approx((1.0 + 0.4) / 2)
    spread = np.sqrt(0.4 * 0.6 / 10) / 2  # the larger class has no spread at all
    assert (metric.low, metric.high) == pytest.approx((0.7 - 1.96 * spread, 0.7 + 1.96 * spread))
    assert (metric.name, metric.n, metric.dataset) == ("mean_per_class_accuracy", 100, "made up")
