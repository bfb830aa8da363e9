"""Charts for a page, as data: URIs. They are drawn once and coloured twice, for light and for dark.

No text from users enters a chart, since fonts lack characters and matplotlib reads `$` as mathematics.
"""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from training.calibrate import Bin

INK, FAINT, PAPER = "#1f2328", "#d1d9e0", "#fefefe"
FIRST, SECOND = "#0a69da", "#bc4c00"
# Light and dark of each run; where they are used up, the next dashes tell the runs apart
RUNS = ((FIRST, "#58a6ff"), (SECOND, "#f0883e"), ("#1a7f37", "#3fb950"), ("#8250df", "#bc8cff"), ("#bf3989", "#f778ba"))
_DARK = {INK: "#d1d7e1", FAINT: "#3d444e", PAPER: "#0d1118", **dict(RUNS)}
DASHES = ("-", "--", ":", "-.")
_PIXELS_PER_INCH = 96

Floats = npt.NDArray[np.floating]


class Drawing(NamedTuple):
    """One chart as two data: URIs, its size in CSS pixels and what it says in words."""

    light: str
    dark: str
    width: int
    height: int
    alt: str


class Line(NamedTuple):
    """Values by epoch. `run` counts from 0 and sets colour and dashes, `label` goes into the legend."""

    epochs: Sequence[int]
    values: Sequence[float]
    run: int
    label: str = ""
    thin: bool = False


def curves(lines: Sequence[Line], what: str, *, percent: bool, alt: str) -> Drawing:
    figure, axes = _figure(4.4, 3.0)
    for line in lines:
        axes.plot(
            line.epochs,
            line.values,
            color=RUNS[line.run % len(RUNS)][0],
            linestyle=DASHES[line.run // len(RUNS) % len(DASHES)],
            linewidth=1.0 if line.thin else 2.0,
            marker="o" if len(line.values) < 3 else None,
            label=line.label or None,
        )
    axes.set(xlabel="epoch", ylabel=what)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if any(line.label for line in lines):
        axes.legend(labelcolor=INK, frameon=False)
    return _drawing(figure, alt)


def reliability(bins: Sequence[Bin], *, alt: str) -> Drawing:
    """Accuracy over confidence, bin by bin, against the diagonal; below it, how many examples each bin holds."""
    figure = Figure(figsize=(4.2, 4.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    low, width = [one.low for one in bins], [one.high - one.low for one in bins]
    upper.bar(low, [one.accuracy for one in bins], width, align="edge", color=FIRST, alpha=0.75, edgecolor=PAPER)
    upper.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1)
    upper.plot([one.confidence for one in bins], [one.accuracy for one in bins], "o", color=SECOND, markersize=4)
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    upper.yaxis.set_major_formatter(PercentFormatter(1.0))
    lower.bar(low, [one.n for one in bins], width, align="edge", color=INK, alpha=0.45, edgecolor=PAPER)
    lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    lower.xaxis.set_major_formatter(PercentFormatter(1.0))
    lower.set(xlabel="confidence", ylabel="examples")
    for axes in (upper, lower):
        _tint(axes)
    return _drawing(figure, alt)


def risk_coverage(coverage: Floats, risk: Floats, chosen: tuple[float, float] | None, *, alt: str) -> Drawing:
    """Error rate among the most confident share of the examples; `chosen` marks one point."""
    figure, axes = _figure(4.4, 3.4)
    axes.plot(coverage, risk, color=FIRST, linewidth=2, marker="o" if len(coverage) < 3 else None)
    if chosen is not None:
        axes.plot(*chosen, "o", color=SECOND, markersize=8, zorder=3)
        axes.vlines(chosen[0], 0, chosen[1], color=SECOND, linestyle="--", linewidth=1)
    axes.set(xlim=(0, 1.02), ylim=(0, max(0.01, 1.08 * float(risk.max()))), xlabel="answered", ylabel="wrong of these")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return _drawing(figure, alt)


def heat_map(matrix: Floats, *, alt: str) -> Drawing:
    """A square matrix of shares from 0 to 1, true classes downwards, predicted ones across."""
    figure, axes = _figure(6.5, 5.6)
    axes.grid(visible=False)
    shown = axes.imshow(matrix, cmap="viridis", vmin=0.0, vmax=1.0, interpolation="nearest")
    bar = figure.colorbar(shown, format=PercentFormatter(1.0), label="share of the true class")
    _tint(bar.ax)
    axes.set(xlabel="number of the predicted class", ylabel="number of the true class")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator("auto", integer=True))
    return _drawing(figure, alt)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _tint(axes)
    return figure, axes


def _tint(axes: Axes) -> None:
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for name, spine in axes.spines.items():
        spine.set_color(FAINT)
        spine.set_visible(name in ("left", "bottom"))


def _drawing(figure: Figure, alt: str) -> Drawing:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, dpi=200, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    light = dark = text[text.index("<svg") :]
    for colour, instead in _DARK.items():
        dark = dark.replace(colour, instead)
    width, height = (round(_PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
    return Drawing(
        data_uri("image/svg+xml", light.encode()), data_uri("image/svg+xml", dark.encode()), width, height, alt
    )


def data_uri(kind: str, data: bytes) -> str:
    """`data` of the MIME type `kind`, as a page holds it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
