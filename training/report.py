"""What a run reached, as one HTML page that loads nothing from elsewhere: `report.html.j2` filled in.

Names of classes come from users' folders; the template escapes all of them.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jinja2
import keras
import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from models.manifest import Abstention, Label, Manifest, Metric
from models.repository import VersionFolder
from training import calibrate, inside, plots
from training.calibrate import Floats, Ints, Judged
from training.history import Epoch
from training.inside import Picture, Shown
from training.plots import Drawing, Line
from training.splits import Split

WORST = 24
CONFUSIONS = 20
MOST_CLASSES_IN_A_TABLE = 25


@dataclass(frozen=True)
class Findings:
    """`logits` float32 [N, C] or, of several views, [N, V, C] are the network's on `test`, before the temperature.

    Any part may be empty.
    """

    manifest: Manifest
    history: Sequence[Epoch]
    test: Split
    logits: npt.NDArray[np.float32]
    network: keras.Model | None


class Confusion(NamedTuple):
    true: str
    predicted: str
    n: int
    share: float


class ClassFigures(NamedTuple):
    """A figure is NaN where the class was never predicted, or has no example."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


class Mistake(NamedTuple):
    picture: Picture
    true: str
    predicted: str
    confidence: float


@contextmanager
def after(published: VersionFolder) -> Iterator[None]:
    """For what is written once a version is published: whatever stops it says that the version is there."""
    name = f"{published.name} version {published.version} is published"
    try:
        yield
    except OSError as error:
        raise OSError(f"{name}, but its report can't be written: {error}") from error
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{name}, but without its report") from stop


def write(findings: Findings, path: Path) -> None:
    """The report of one version. Readers of `path` see the whole page or what stood there before."""
    manifest = findings.manifest
    names = _names(manifest.labels)
    page = {
        "title": f"{manifest.name}, version {manifest.version}",
        "manifest": manifest,
        "history": findings.history,
        "learning": learning_curves(findings.history),
        "test": _judgement(findings, names) if len(findings.test) else None,
        "inside": list(_inside(findings)),
    }
    _publish(_template().render(page), path)


def compare(runs: Mapping[str, Sequence[Epoch]], path: Path) -> None:
    """Learning curves of several runs by name, all runs in one chart each for accuracy and loss."""
    page = {
        "title": f"Learning curves of {len(runs)} runs",
        "manifest": None,
        "runs": runs,
        "learning": comparison(runs),
    }
    _publish(_template().render(page), path)


def learning_curves(history: Sequence[Epoch]) -> list[Drawing]:
    """Accuracy, loss and learning rate by epoch; nothing without epochs."""
    if not history:
        return []
    return [*_curves({"": history}), _learning_rate(history)]


def comparison(runs: Mapping[str, Sequence[Epoch]]) -> list[Drawing]:
    """Accuracy and loss of all runs; each line ends in the number of its run, from 1."""
    return _curves(runs) if any(runs.values()) else []


def confusions(matrix: Ints, names: Sequence[str]) -> list[Confusion]:
    """The most frequent ones of a matrix [true, predicted]; `share` is that of the true class's examples."""
    wrong = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    cells = [divmod(int(cell), len(matrix)) for cell in order]
    return [
        Confusion(
            names[true], names[predicted], int(wrong[true, predicted]), wrong[true, predicted] / matrix[true].sum()
        )
        for true, predicted in cells
        if wrong[true, predicted]
    ]


def class_figures(classes: Ints, predicted: Ints, names: Sequence[str]) -> list[ClassFigures]:
    """Precision, recall, F1 and number of examples of every class, in the order of `names`."""
    columns = precision_recall_fscore_support(classes, predicted, labels=range(len(names)), zero_division=np.nan)
    return [
        ClassFigures(name, float(precision), float(recall), float(f1), int(support))
        for name, precision, recall, f1, support in zip(names, *columns, strict=True)
    ]


def worst(judged: Judged) -> Ints:
    """Rows of the wrong ones, the most confident first."""
    wrong = np.flatnonzero(~judged.correct)
    return wrong[np.argsort(-judged.confidence[wrong], kind="stable")][:WORST]


def risk_coverage(judged: Judged) -> tuple[Floats, Floats]:
    """Coverage and error rate for every threshold that tells confidences apart, from the highest downwards."""
    order = np.argsort(-judged.confidence, kind="stable")
    confidence, errors = judged.confidence[order], np.cumsum(~judged.correct[order])
    ends = np.append(np.flatnonzero(np.diff(confidence)), len(order) - 1)
    return (ends + 1) / len(order), errors[ends] / (ends + 1)


def _curves(runs: Mapping[str, Sequence[Epoch]]) -> list[Drawing]:
    drawings = []
    for what in ("accuracy", "loss"):
        lines = []
        for run, epochs in enumerate(runs.values()):
            if not epochs:
                continue
            numbers = [epoch.epoch for epoch in epochs]
            training, validation = ([getattr(epoch, name) for epoch in epochs] for name in (what, f"validation_{what}"))
            if len(runs) == 1:
                lines += [Line(numbers, training, 1, "training"), Line(numbers, validation, 0, "validation")]
            else:
                lines += [Line(numbers, training, run, thin=True), Line(numbers, validation, run, str(run + 1))]
        percent = what == "accuracy"
        ends = (f"{name or 'the run'} {_ending(epochs, what, percent=percent)}" for name, epochs in runs.items())
        alt = f"{what.capitalize()} by epoch: {'; '.join(ends)}."
        drawings.append(plots.curves(lines, what, percent=percent, alt=alt))
    return drawings


def _ending(epochs: Sequence[Epoch], what: str, *, percent: bool) -> str:
    if not epochs:
        return "has no epochs"
    names = (what, f"validation_{what}")
    training, validation = (f"{getattr(epochs[-1], name):{'.1%' if percent else '.4g'}}" for name in names)
    return f"ends at {training} in training and {validation} on validation data"


def _learning_rate(history: Sequence[Epoch]) -> Drawing:
    rates = [epoch.learning_rate for epoch in history]
    alt = f"Learning rate by epoch: from {rates[0]:.3g} to {rates[-1]:.3g}, at most {max(rates):.3g}."
    return plots.curves([Line([epoch.epoch for epoch in history], rates, 0)], "learning rate", percent=False, alt=alt)


def _judgement(findings: Findings, names: Sequence[str]) -> dict[str, object]:
    """Everything that is read on the test data."""
    classes, temperature = findings.test.classes, findings.manifest.calibration.temperature
    # float32 as `run` has it, so that figures at the threshold are those of the manifest
    probabilities = calibrate.scale(findings.logits, temperature).astype(np.float32)
    judged = calibrate.judge(probabilities, classes)
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(classes, predicted, labels=range(len(names)))
    rows = class_figures(classes, predicted, names)
    return {
        "n": len(classes),
        "wrong": int((~judged.correct).sum()),
        "names": names,
        "confusion": _confusion(matrix),
        "confusions": confusions(matrix, names),
        "rows": rows,
        "means": [_mean(np.array([row[column] for row in rows])) for column in (1, 2, 3)],
        "mistakes": [
            Mistake(
                inside.photo(findings.test.images[row]),
                names[classes[row]],
                names[predicted[row]],
                float(judged.confidence[row]),
            )
            for row in worst(judged)
        ],
        "reliability": list(_reliability(findings, judged)),
        "risk": _risk(judged, findings.manifest.decision.abstention),
    }


def _confusion(matrix: Ints) -> dict[str, object]:
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    drawing = None
    if len(matrix) > MOST_CLASSES_IN_A_TABLE:
        alt = f"Confusion matrix of {len(matrix)} classes; {np.trace(matrix)} of {matrix.sum()} lie on the diagonal."
        drawing = plots.heat_map(shares, alt=alt)
    return {"counts": matrix.tolist(), "shares": shares.tolist(), "drawing": drawing}


def _reliability(findings: Findings, scaled: Judged) -> Iterator[tuple[str, float, Drawing]]:
    raw = calibrate.judge(calibrate.scale(findings.logits, 1.0), findings.test.classes)
    temperature = findings.manifest.calibration.temperature
    stages = [("Before temperature scaling", raw), (f"After, with a temperature of {temperature:.3f}", scaled)]
    for title, judged in stages[:1] if findings.manifest.calibration.method == "none" else stages:
        error = calibrate.calibration_error(judged.confidence, judged.correct, equal_mass=False)
        alt = (
            f"Mean confidence {judged.confidence.mean():.1%}, accuracy {judged.correct.mean():.1%}, "
            f"expected calibration error {error:.2%} in {calibrate.BINS} bins."
        )
        yield title, error, plots.reliability(calibrate.reliability(judged), alt=alt)


def _risk(judged: Judged, abstention: Abstention | None) -> Drawing:
    coverage, risk = risk_coverage(judged)
    alt = f"Of all pictures, {risk[-1]:.2%} are classified wrong."
    if abstention is None:
        return plots.risk_coverage(coverage, risk, None, alt=f"{alt} No threshold was chosen.")
    accepted = judged.confidence >= abstention.threshold
    if not accepted.any():
        return plots.risk_coverage(coverage, risk, None, alt=f"{alt} No picture reaches {abstention.threshold:.3f}.")
    chosen = float(accepted.mean()), _mean(~judged.correct[accepted])
    answered, wrong = (f"{share:.2%}" for share in chosen)
    alt = f"{alt} At the threshold {abstention.threshold:.3f}, {answered} are answered, {wrong} of them wrong."
    return plots.risk_coverage(coverage, risk, chosen, alt=alt)


def _inside(findings: Findings) -> Iterator[Shown]:
    if findings.network is not None:
        yield from inside.shown(findings.network, findings.test.images[0] if len(findings.test) else None)


def _names(labels: Sequence[Label]) -> list[str]:
    """Names, with the id where a name stands for several classes."""
    known = Counter(label.name for label in labels)
    return [f"{one.name} ({one.id})" if known[one.name] > 1 and one.id else one.name for one in labels]


def _mean(values: npt.NDArray[np.generic]) -> float:
    """Of what is defined; NaN where nothing is."""
    known = values[~np.isnan(values.astype(np.float64))]
    return float(known.astype(np.float64).mean()) if len(known) else math.nan


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=_percent, figure=_metric, value=_value)
    return environment.get_template("report.html.j2")


def _percent(share: float, digits: int = 1) -> str:
    return "\N{EN DASH}" if math.isnan(share) else f"{share:.{digits}%}"


def _metric(value: float, metric: Metric) -> str:
    """Shares and calibration errors in per cent, the rest as numbers."""
    return _percent(value, 2) if metric.interval == "wilson" or metric.name.startswith("ece") else f"{value:.4f}"


def _value(value: object) -> str:
    """A value of a recipe, as it would be read aloud."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_value(one)}" for name, one in value.items())
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _publish(page: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(page, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
