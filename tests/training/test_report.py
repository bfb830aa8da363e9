"""Reports: what the page says against figures made by hand, and that nothing in it can run or load anything."""

import base64
import io
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from models.manifest import (
    Abstention,
    Architecture,
    Calibration,
    DatasetRecord,
    Decision,
    InputSpec,
    Label,
    Manifest,
    Metric,
    Provenance,
    SplitRecord,
)
from models.repository import VersionFolder
from training import history, inside, plots, report
from training.calibrate import Judged
from training.history import Epoch
from training.report import Findings
from training.splits import Split

DASH = "\N{EN DASH}"
VOID = {"img", "meta", "source", "link", "br"}


class Page(HTMLParser):
    """Every tag with its attributes, the words outside of <style>, and each table's rows by its first class."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.style = ""
        self.tables: dict[str, list[list[str]]] = {}
        self.rows: list[list[str]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows = self.tables.setdefault(found.get("class", "").split(" ")[0], [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            self.style += data
        else:
            self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data.strip()

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def image(self, beginning: str) -> dict[str, str]:
        (found,) = [image for image in self.all("img") if image["alt"].startswith(beginning)]
        return found


def _manifest(names: Sequence[str], temperature: float = 1.0, threshold: float | None = None) -> Manifest:
    abstention = None if threshold is None else Abstention(
        threshold=threshold, target_risk=0.02, confidence_level=0.95, coverage=0.5, n=700, dataset="things, held out"
    )  # fmt: skip
    record = DatasetRecord(name="things", source="things, made up", splits={"train": SplitRecord(n=9, sha256="c" * 64)})
    return Manifest(
        name="things",
        version=7,
        description="Which thing & why",
        created_at=datetime(2026, 2, 3, 4, 5, tzinfo=UTC),
        architecture=Architecture(name="traut", parameters=12345),
        input=InputSpec(height=8, width=8),
        labels=tuple(Label(name=name) for name in names),
        calibration=Calibration(method="temperature", temperature=temperature, n=9),
        decision=Decision(abstention=abstention),
        metrics=(
            Metric(
                name="accuracy", value=0.875, low=0.8, high=0.925, interval="wilson", n=1234, dataset="things, test"
            ),
            Metric(name="negative_log_likelihood", value=0.5, low=0.4, high=0.6, interval="normal", n=99, dataset="d"),
        ),
        provenance=Provenance(
            recipe="a-recipe",
            settings={"learning_rate": 0.003, "input": {"height": 8, "width": 8}},
            git_commit="0123abc",
            seed=5,
            dataset=record,
            pretrained=None,
            libraries={"keras": "3.99"},
            device="an abacus",
            wall_seconds=12.5,
        ),
        golden_tolerance={"f32": 0.001, "bf16": 0.01},
        files={},
    )


def _images(n: int, height: int = 8, width: int = 8) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def _findings(
    names: Sequence[str],
    classes: Sequence[int],
    logits: Sequence[Sequence[float]],
    *,
    temperature: float = 1.0,
    threshold: float | None = None,
    size: tuple[int, int] = (8, 8),
    epochs: Sequence[Epoch] = (),
    network: keras.Model | None = None,
) -> Findings:
    return Findings(
        manifest=_manifest(names, temperature, threshold),
        history=epochs,
        test=Split(_images(len(classes), *size), np.array(classes, dtype=np.int64)),
        logits=np.array(logits, dtype=np.float32).reshape(len(classes), len(names)),
        network=network,
    )


def _write(findings: Findings, folder: Path) -> Page:
    report.write(findings, folder / "report.html")
    return Page(folder / "report.html")


def _epochs(n: int, learning_rate: float = 0.5) -> list[Epoch]:
    return [Epoch(i, 1 / i, 1 - 0.5 / i, 2 / i, 1 - 0.75 / i, learning_rate / i, 1.5) for i in range(1, n + 1)]


def _bytes(uri: str) -> bytes:
    head, data = uri.split(",", 1)
    assert head in ("data:image/png;base64", "data:image/jpeg;base64", "data:image/svg+xml;base64")
    return base64.b64decode(data, validate=True)


def _picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(_bytes(uri)))


# Six pictures of a, b and c; d has none and is never predicted. Two of a are taken for b, c for a.
NAMES = ("a", "b", "c", "d")
CLASSES = (0, 0, 0, 1, 1, 2)
LOGITS = ((2, 0, 0, 0), (0, 3, 0, 0), (0, 1, 0, 0), (0, 4, 0, 0), (0, 5, 0, 0), (6, 0, 0, 0))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Of the six pictures at a temperature of 2, with three epochs."""
    findings = _findings(NAMES, CLASSES, LOGITS, temperature=2.0, threshold=0.75, epochs=_epochs(4))
    return _write(findings, tmp_path_factory.mktemp("report"))


def _confidence(logit: float, temperature: float = 1.0) -> float:
    """Of one logit among three of 0."""
    return math.exp(logit / temperature) / (math.exp(logit / temperature) + 3)


def test_the_head_tells_what_it_is_and_where_it_comes_from(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert "things version 7 Which thing & why" in page.text
    assert "2026-02-03 04:05 UTC from recipe a-recipe: traut with 12,345 parameters, 4 classes" in page.text
    assert page.tables["named"][1] == ["accuracy", "87.50%", "80.00% to 92.50%", "1,234", "things, test(wilson)"]
    assert page.tables["named"][2][:4] == ["negative log likelihood", "0.5000", "0.4000 to 0.6000", "99"]
    origin = dict(row for row in page.tables["pairs"] if len(row) == 2)
    assert origin == {
        "learning_rate": "0.003",
        "input": "height: 8, width: 8",
        "commit": "0123abc",
        "seed": "5",
        "data": "things, made up",
        "pretrained": "no",
        "device": "an abacus",
        "seconds": "12.5",
        "keras": "3.99",
    }


def test_confusions_are_counted_by_true_class_and_prediction(page: Page) -> None:
    assert "3 of 6 test pictures are classified wrong." in page.text
    assert page.tables["confusion"] == [
        ["", "a", "b", "c", "d"],
        ["a", "1", "2", "", ""],
        ["b", "", "2", "", ""],
        ["c", "1", "", "", ""],
        ["d", "", "", "", ""],
    ]
    shades = [cell["style"] for cell in page.all("td") if "style" in cell]
    assert shades[:2] == ["--share: 33.3%", "--share: 66.7%"]
    assert page.tables["frequent"][1:] == [["a", "b", "2", "66.7%"], ["c", "a", "1", "100.0%"]]


def test_each_class_has_its_figures_and_a_dash_where_there_is_nothing_to_divide_by(page: Page) -> None:
    assert page.tables["classes"][1:] == [
        ["0", "a", "50.0%", "33.3%", "40.0%", "3"],
        ["1", "b", "50.0%", "100.0%", "66.7%", "2"],
        ["2", "c", DASH, "0.0%", "0.0%", "1"],
        ["3", "d", DASH, DASH, DASH, "0"],
        ["", "Mean of the classes", "50.0%", "44.4%", "35.6%", "6"],
    ]


def test_the_most_confident_mistakes_come_first_with_their_pictures(page: Page) -> None:
    captions = re.findall(r"True: (\w) Predicted: (\w), ([\d.]+%)", page.text)
    assert captions == [
        (t, p, f"{_confidence(x, 2.0):.1%}") for t, p, x in (("c", "a", 6), ("a", "b", 3), ("a", "b", 1))
    ]
    shown = [image for image in page.all("img") if "taken for" in image["alt"]]
    assert [image["alt"] for image in shown][:2] == [
        "A test picture of c, taken for a",
        "A test picture of a, taken for b",
    ]
    for image, row in zip(shown, (5, 1, 2), strict=True):  # small ones are PNG: not a pixel is changed
        np.testing.assert_array_equal(np.asarray(_picture(image["src"])), _images(6)[row])


def test_at_most_24_mistakes_are_shown(tmp_path: Path) -> None:
    page = _write(_findings("ab", [0] * 30, [(0, i) for i in range(1, 31)]), tmp_path)

    assert len([image for image in page.all("img") if "taken for" in image["alt"]]) == 24


def test_photos_become_small_jpegs(tmp_path: Path) -> None:
    page = _write(_findings("ab", [0], [(0, 1)], size=(200, 300)), tmp_path)

    image = page.image("A test picture of a")
    picture = _picture(image["src"])
    assert (picture.format, picture.size) == ("JPEG", (160, 107))
    assert (image["width"], image["height"]) == ("160", "107")


def test_names_from_folders_are_text_and_nothing_else(tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$\\nomath{$ 猫 \N{CAT FACE}")
    page = _write(_findings(names, [0, 1, 2], [(0, 1, 0), (0, 0, 1), (1, 0, 0)]), tmp_path)

    assert page.all("script") == []
    assert {name for _, attributes in page.tags for name in attributes if name.startswith("on")} == set()
    assert page.tables["confusion"][0] == ["", *names]
    assert [row[:2] for row in page.tables["frequent"][1:]] == [[names[i], names[(i + 1) % 3]] for i in range(3)]
    assert page.image(f"A test picture of {names[1]}")["alt"].endswith(f"taken for {names[2]}")


def test_names_of_runs_are_text_too(tmp_path: Path) -> None:
    report.compare({"<script>": _epochs(2), '"&$': _epochs(3)}, tmp_path / "runs.html")
    page = Page(tmp_path / "runs.html")

    assert page.all("script") == []
    assert [row[1] for row in page.tables["runs"][1:]] == ["<script>", '"&$']


def test_the_page_loads_nothing_from_elsewhere(page: Page) -> None:
    assert {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags} == set()
    places = [one[name] for _, one in page.tags for name in ("src", "srcset", "href") if name in one]
    assert [place for place in places if not place.startswith(("data:", "#"))] == []
    assert {place[1:] for place in places if place.startswith("#")} == {one["id"] for one in page.all("section")}
    assert "url(" not in page.style and "@import" not in page.style
    drawn = [_bytes(place).decode() for place in places if place.startswith("data:image/svg")]
    assert drawn
    assert [svg for svg in drawn if "<script" in svg or re.search(r'href="[^#]', svg)] == []
    assert any("default-src 'none'" in one.get("content", "") for one in page.all("meta"))


def test_every_chart_has_words_and_a_dark_twin(page: Page) -> None:
    assert all(image["alt"] for image in page.all("img"))
    twins = page.all("source")
    assert len(twins) == len(page.all("picture")) == 6  # three learning curves, two reliability diagrams, one risk
    assert {one["media"] for one in twins} == {"(prefers-color-scheme: dark)"}
    charts = [image for image in page.all("img") if "svg" in image["src"][:20]]
    for light, dark in zip(charts, twins, strict=True):
        assert plots.INK in _bytes(light["src"]).decode()
        assert plots.INK not in _bytes(dark["srcset"]).decode()


def test_learning_curves_say_where_they_end_and_hold_all_epochs_as_numbers(page: Page) -> None:
    assert page.image("Accuracy")["alt"].endswith("ends at 87.5% in training and 81.2% on validation data.")
    assert page.image("Loss")["alt"].endswith("ends at 0.25 in training and 0.5 on validation data.")
    assert page.image("Learning rate")["alt"] == "Learning rate by epoch: from 0.5 to 0.125, at most 0.5."
    assert page.tables[""][1] == ["1", "1.0000", "50.00%", "2.0000", "25.00%", "0.5", "1.5"]


def test_a_diverged_run_is_still_drawn(tmp_path: Path) -> None:
    epochs = [*_epochs(2), Epoch(3, math.nan, 0.1, math.inf, 0.1, 0.5, 1.0)]

    page = _write(_findings("ab", (), (), epochs=epochs), tmp_path)

    assert page.image("Loss")["alt"].endswith("ends at nan in training and inf on validation data.")


def test_calibration_shows_the_error_before_and_after(page: Page) -> None:
    right = np.array([True, False, False, True, True, False])
    for temperature in (1.0, 2.0):
        confidence = np.array([_confidence(x, temperature) for x in (2, 3, 1, 4, 5, 6)])
        groups: dict[int, float] = {}
        for one, hit in zip(confidence, right, strict=True):
            groups[math.ceil(one * 15)] = groups.get(math.ceil(one * 15), 0.0) + hit - one
        assert f"ECE {sum(map(abs, groups.values())) / 6:.2%}" in page.text
    assert "Before temperature scaling" in page.text
    assert "After, with a temperature of 2.000" in page.text


def test_without_temperature_scaling_there_is_one_reliability_diagram(tmp_path: Path) -> None:
    findings = _findings(NAMES, CLASSES, LOGITS)
    manifest = findings.manifest.model_copy(update={"calibration": Calibration(method="none")})
    page = _write(Findings(manifest, (), findings.test, findings.logits, None), tmp_path)

    assert len([image for image in page.all("img") if "expected calibration error" in image["alt"]]) == 1


def test_risk_falls_with_coverage_and_equal_confidences_are_taken_together() -> None:
    judged = Judged(np.array([0.5, 0.9, 0.7, 0.7]), np.array([False, True, False, True]))

    coverage, risk = report.risk_coverage(judged)

    assert coverage.tolist() == [0.25, 0.75, 1.0]
    assert risk.tolist() == [0.0, 1 / 3, 0.5]


def test_abstention_says_what_the_threshold_does_on_test(page: Page) -> None:
    # At temperature 2 the logits 4, 5 and 6 reach 0.71, 0.80 and 0.87; the last is wrong
    said = "Of all pictures, 50.00% are classified wrong. At the threshold 0.750, 33.33% are answered, "
    said += "50.00% of them wrong."
    assert said in page.text
    assert page.image("Of all pictures")["alt"] == said
    assert "The threshold was chosen on things, held out (n = 700), so that at most 2.0% of the answers" in page.text


@pytest.mark.parametrize(
    ("threshold", "said"), [(0.9999, "No picture reaches 1.000."), (None, "No threshold was chosen.")]
)
def test_a_threshold_that_is_missing_or_too_high_is_named(tmp_path: Path, threshold: float | None, said: str) -> None:
    page = _write(_findings(NAMES, CLASSES, LOGITS, threshold=threshold), tmp_path)

    assert f"50.00% are classified wrong. {said}" in page.text


def test_many_classes_get_a_heat_map_without_numbers_and_a_small_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    classes = random.integers(0, 100, 300)  # the last of 101 has no picture
    logits = random.normal(0, 2, (300, 101)) + 4 * np.eye(101)[classes]
    findings = _findings([f"kind {i}" for i in range(101)], classes.tolist(), logits.tolist(), size=(224, 224))
    page = _write(findings, tmp_path)

    assert "confusion" not in page.tables
    right = int((findings.logits.argmax(axis=1) == classes).sum())
    assert page.image("Confusion matrix")["alt"] == (
        f"Confusion matrix of 101 classes; {right} of 300 lie on the diagonal."
    )
    assert len(page.tables["frequent"]) == 1 + report.CONFUSIONS
    last = page.tables["classes"][-2]
    assert (last[:2], last[3], last[5]) == (["100", "kind 100"], DASH, "0")
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_two_classes_and_no_mistake(tmp_path: Path) -> None:
    page = _write(_findings("ab", [0, 1], [(1, 0), (0, 1)]), tmp_path)

    assert "every test picture is classified right" in page.text
    assert page.tables["confusion"][1:] == [["a", "1", ""], ["b", "", "1"]]
    assert "frequent" not in page.tables


def test_labels_of_one_name_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    findings = _findings("xyz", [0], [(1, 0, 0)])
    labels = (Label(name="crane", id="n1"), Label(name="crane", id="n2"), Label(name="cat", id="n3"))
    manifest = findings.manifest.model_copy(update={"labels": labels})
    page = _write(Findings(manifest, (), findings.test, findings.logits, None), tmp_path)

    assert page.tables["confusion"][0] == ["", "crane (n1)", "crane (n2)", "cat"]


def _network(kernel: int = 3, channels: int = 3) -> keras.Model:
    """With a 1x1 convolution before the first real one, as the network for grey pictures has it."""
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(channels, 1, name="one_pixel")(pixels)
    x = keras.layers.Conv2D(10, kernel, padding="same", name="first")(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    features = keras.layers.Conv2D(40, 3, strides=2, padding="same")(x)
    embedding = keras.layers.GlobalAveragePooling2D()(features)
    outputs = {"logits": keras.layers.Dense(2)(embedding), "embedding": embedding, "features": features}
    return keras.Model(pixels, outputs)


def test_filters_and_feature_maps_are_shown(tmp_path: Path) -> None:
    page = _write(_findings("ab", [0], [(1, 0)], network=_network()), tmp_path)

    filters = page.image("First filters")
    assert (
        filters["alt"] == "First filters: All 10 filters of 3x3 pixels in 'first', stretched in contrast, as colours."
    )
    # Two rows of eight tiles: 3 pixels enlarged to 48, gaps of 3 between them
    assert (_picture(filters["src"]).size, _picture(filters["src"]).mode) == ((8 * 51 - 3, 2 * 51 - 3), "RGB")
    first, last = page.image("After the first"), page.image("After the last")
    assert "All 10 channels, 8x8 pixels each" in first["alt"]
    assert "The 32 of 40 channels that vary most, 4x4 pixels each" in last["alt"]
    assert _picture(first["src"]).size == (8 * 75 - 3, 2 * 75 - 3)
    assert _picture(last["src"]).size == (8 * 75 - 3, 4 * 75 - 3)


def test_feature_maps_are_those_after_normalisation_and_activation() -> None:
    network = _network()
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    block = keras.Model(network.input, network.layers[4].output)
    features = np.asarray(block(image[None].astype(np.float32)))[0]

    shown = {one.title: one.picture for one in inside.shown(network, image)}["After the first convolution block"]

    liveliest = features[..., features.std(axis=(0, 1)).argmax()]
    tile = np.asarray(_picture(shown.uri))[:72:9, :72:9]  # 8 pixels, each enlarged to 9
    wanted = (liveliest - liveliest.min()) / (liveliest.max() - liveliest.min()) * 254
    np.testing.assert_allclose(tile, wanted, atol=0.6)


@pytest.mark.parametrize(("channels", "said"), [(1, "contrast."), (5, "means over 5 channels.")])
def test_filters_of_other_depths_are_grey(channels: int, said: str) -> None:
    (filters,) = inside.shown(_network(kernel=5, channels=channels), None)

    assert filters.text.endswith(said)
    pixels = np.asarray(_picture(filters.picture.uri).convert("RGB"))
    assert (pixels == pixels[..., :1]).all()
    assert filters.picture.width == 8 * (45 + 3) - 3


def test_a_nested_network_is_looked_into_and_left_as_it_was(tmp_path: Path) -> None:
    pixels, inner = keras.Input((8, 8, 3)), _network()
    nested = keras.Model(pixels, inner(keras.layers.Rescaling(1 / 255)(pixels)))
    image = np.zeros((8, 8, 3), np.uint8)

    titles = [one.title for one in inside.shown(nested, image)]

    assert titles == [
        "First filters",
        "A test picture",
        "After the first convolution block",
        "After the last convolution block",
    ]
    assert [layer.name for layer in inner.layers if "call" in vars(layer)] == []


def test_a_network_without_convolutions_shows_what_it_can() -> None:
    pixels = keras.Input((8, 8, 3))
    network = keras.Model(pixels, {"logits": keras.layers.Dense(2)(keras.layers.Flatten()(pixels))})

    assert [one.title for one in inside.shown(network, np.zeros((8, 8, 3), np.uint8))] == ["A test picture"]


def test_large_and_oblong_tiles_keep_their_shape() -> None:
    random = np.random.default_rng(0)

    assert inside.mosaic(random.random((1, 100, 200)), 72)[1:3] == (72, 36)
    assert inside.mosaic(random.random((1, 10, 20)), 72)[1:3] == (60, 30)
    assert inside.mosaic(np.full((9, 6, 6), np.nan), 6)[1:3] == (8 * 9 - 3, 15)


def test_without_test_data_the_rest_is_reported(tmp_path: Path) -> None:
    page = _write(_findings("ab", (), (), epochs=_epochs(2), network=_network()), tmp_path)

    assert "There is no test data" in page.text
    assert {one["id"] for one in page.all("section")} == {"figures", "learning", "inside", "origin"}
    assert len(page.all("img")) == 4  # three learning curves, and the filters


def test_a_report_replaces_the_one_before_it_or_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new folder" / "report.html"
    report.write(_findings("ab", (), ()), path)
    before = path.read_bytes()
    assert "No epochs were recorded." in Page(path).text

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(Path, "replace", full)
        report.write(_findings("ab", (), (), epochs=_epochs(1)), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]

    report.write(_findings("ab", (), (), epochs=_epochs(1)), path)
    assert "No epochs were recorded." not in Page(path).text


def test_runs_are_compared_in_one_chart_each_for_accuracy_and_loss(tmp_path: Path) -> None:
    report.compare({"slow": _epochs(2), "fast": _epochs(10), "not begun": []}, tmp_path / "runs.html")
    page = Page(tmp_path / "runs.html")

    assert page.image("Accuracy")["alt"] == (
        "Accuracy by epoch: slow ends at 75.0% in training and 62.5% on validation data; "
        "fast ends at 95.0% in training and 92.5% on validation data; not begun has no epochs."
    )
    assert len(page.all("img")) == 2
    assert page.tables["runs"][1:] == [
        ["1", "slow", "2", "62.50%", "62.50%", "1.0000", "3.0"],
        ["2", "fast", "10", "92.50%", "92.50%", "0.2000", "15.0"],
        ["3", "not begun", "0", DASH, DASH, DASH, DASH],
    ]
    svg = _bytes(page.image("Loss")["src"]).decode()
    assert [colour in svg for colour, _ in plots.RUNS[:3]] == [True, True, False]


def test_history_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    epochs = (Epoch(1, 0.1 + 0.2, 1 / 3, math.inf, 0.5, 1e-300, 2.5), *_epochs(3)[1:])
    history.write(epochs, tmp_path / history.FILE)

    assert history.read(tmp_path / history.FILE) == epochs
    first = (tmp_path / history.FILE).read_text(encoding="utf-8").splitlines()[0]
    assert first == "epoch,loss,accuracy,validation_loss,validation_accuracy,learning_rate,seconds"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected epoch,loss,.*, got ''"),
        ("epoch,loss\n1,2\n", "line 1: expected epoch,loss,accuracy.*, got 'epoch,loss'"),
        ("{header}\n1,1,1,1,1,1,1\n2,1,1\n", "line 3: expected 7 numbers, got '2,1,1'"),
        ("{header}\n1,1,much,1,1,1,1\n", "line 2: expected 7 numbers, got '1,1,much,1,1,1,1'"),
    ],
)
def test_a_file_that_is_no_history_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    header = "epoch,loss,accuracy,validation_loss,validation_accuracy,learning_rate,seconds"
    (tmp_path / "history.csv").write_text(text.format(header=header), encoding="utf-8")

    with pytest.raises(history.HistoryError, match=message):
        history.read(tmp_path / "history.csv")


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        (OSError("no space left"), "^pets version 3 is published, but its report can't be written: no space left$"),
        (KeyboardInterrupt(), "^pets version 3 is published, but without its report$"),
    ],
)
def test_what_stops_a_report_says_that_its_version_is_there(stop: BaseException, message: str) -> None:
    with pytest.raises(type(stop), match=message), report.after(VersionFolder("pets", 3, Path("pets/3"), (0, 0, 0))):
        raise stop
