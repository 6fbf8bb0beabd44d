"""The report's plots, drawn by matplotlib as self-contained SVG elements of a page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart_udfs.errors import ColdStartError
from recommender.evaluation.report.measures import Bin, Calibration, Influence, Label, Mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Okabe and Ito's colours, which most colour-blind readers can distinguish; markers differ too.
OURS, SECOND, THIRD, QUIET, GRID = "#0072B2", "#D55E00", "#009E73", "#555555", "#E3E3E3"
_SERIES = ((OURS, "o"), (SECOND, "s"), (THIRD, "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"), (QUIET, "X"))
_GROUPS = {"colour": (OURS, "o"), "material": (SECOND, "s"), "style": (THIRD, "^"), "occasion": ("#CC79A7", "D"),
           "price": ("#E69F00", "v"), "audience": ("#56B4E9", "P")}  # fmt: skip
_WIDTH, _REM_PER_INCH = 9.4, 6.4
_MOST_DECADES = 2.7
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text, so it can be read aloud, searched and copied
    "svg.hashsalt": "coldstart",  # the same evaluation gives the same bytes
    "text.parse_math": False,  # a "$" in a name is not mathematics
    "font.size": 9.5, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": QUIET, "axes.axisbelow": True,
    "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.8, "xtick.color": "#333333", "ytick.color": "#333333",
    "legend.frameon": False, "axes.unicode_minus": True,
}  # fmt: skip


def require_matplotlib() -> None:
    """Check that the plots can be drawn, before hours of work.

    Raises:
        ColdStartError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ColdStartError(
            "the HTML report needs matplotlib, which is not installed: pip install 'feast-coldstart[report]'"
        ) from None


def lift(panels: Mapping[str, Sequence[Mapping[str, Any]]], methods: Sequence[str]) -> str:
    """NDCG@20 of coldstart minus that of each other method, one panel for each kind of candidates.

    Args:
        panels: title → rows with method, lift, ci_low and ci_high (both may be None).
        methods: the other methods, best first.
    """
    lines, columns = _grid(len(panels))
    with new_figure(0.9 * lines + 0.27 * len(methods) * lines, lines, columns, sharey=True) as (figure, axes):
        places = {method: -place for place, method in enumerate(methods)}
        for axis, (title, rows) in zip(axes, panels.items(), strict=False):
            axis.axvline(0, color="black", linewidth=1)
            for row in rows:
                y, sure = places[row["method"]], row["ci_low"] is not None and row["ci_high"] is not None
                if sure:
                    axis.plot([row["ci_low"], row["ci_high"]], [y, y], "|-", color=OURS, linewidth=1.5, markersize=10)
                # Hollow: the interval contains 0.
                told = sure and (row["ci_low"] > 0 or row["ci_high"] < 0)
                axis.plot(row["lift"], y, "o", color=OURS, markerfacecolor=OURS if told else "white", markersize=4.5)
            axis.set_title(title)
            axis.set_xlabel("coldstart minus the method, NDCG@20")
            axis.margins(x=0.08)
            axis.locator_params(axis="x", nbins=5)
            _name_methods(axis, places)
        return svg(figure, "lift")


def by_history(panels: Mapping[str, tuple[Sequence[Bin], Mapping[str, Sequence[Mean]]]]) -> str:
    """Mean NDCG@20 by number of training interactions, coldstart first; a method has one colour in all panels."""
    methods = dict.fromkeys(method for _, series in panels.values() for method in series)
    looks = dict(zip(methods, _SERIES, strict=False))
    lines, columns = _grid(len(panels), 2)
    with new_figure(0.3 + 3.1 * lines, lines, columns) as (figure, axes):
        for axis, (title, (bins, series)) in zip(axes, panels.items(), strict=False):
            for place, (method, means) in enumerate(series.items()):
                colour, marker = looks[method]
                x = np.arange(len(bins)) + 0.16 * (place - (len(series) - 1) / 2)
                axis.vlines(x, [mean.low for mean in means], [mean.high for mean in means], color=colour, linewidth=1.8)
                axis.plot(x, [mean.value for mean in means], marker, color=colour, linestyle="-", linewidth=0.8,
                          markersize=5, label=method)  # fmt: skip
            axis.set_title(title, pad=22)
            axis.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=3, fontsize=8.5, handlelength=1.5,
                        columnspacing=1.2)  # fmt: skip
            axis.set_xticks(range(len(bins)), [f"{each.label}\n{len(each.rows):,}" for each in bins], fontsize=8.5)
            axis.set_xlim(-0.5, len(bins) - 0.5)
            axis.set_ylim(0, 1.08 * max(mean.high for means in series.values() for mean in means) or 1)
            axis.set_xlabel("training interactions of the user\n(below: number of users)")
            axis.set_ylabel("NDCG@20, mean")
            axis.grid(axis="x", visible=False)
        return svg(figure, "history")


def influence(found: Influence) -> str:
    """α(n) and ‖P‖, and the description's share of their sum, against n."""
    with new_figure(3.2, 1, 2) as (figure, (left, right)):
        left.fill_between(found.n, found.norm[:, 0], found.norm[:, 2], color=OURS, alpha=0.18, linewidth=0)
        left.plot(found.n, found.norm[:, 1], "o-", color=OURS, markersize=4, label="behaviour, ‖P‖")
        if found.weight.max() > 0:
            left.plot(found.n, found.weight, "s--", color=SECOND, markersize=4, label="text, α(n)")
        left.set_yscale("log")
        _count_ticks(left.yaxis, [*found.norm.ravel(), *found.weight])
        left.set_title("Length of each part")
        left.set_ylabel("length of the vector")
        left.legend(loc="best")
        low, middle, high = 100 * found.share.T
        right.fill_between(found.n, low, high, color=SECOND, alpha=0.18, linewidth=0)
        right.plot(found.n, middle, "s-", color=SECOND, markersize=4)
        right.axhline(50, color="black", linewidth=1)
        right.set_ylim(0, 100)
        right.set_title("Share of the text")
        right.set_ylabel("α(n) / (α(n) + ‖P‖), %")
        if found.turning_point is not None:
            right.axvline(found.turning_point, color=QUIET, linewidth=1, linestyle=":")
            right.annotate(f"n = {found.turning_point:g}", (found.turning_point, 96), xytext=(4, 0), color=QUIET,
                           textcoords="offset points", va="top")  # fmt: skip
        for axis in (left, right):
            axis.set_xlabel("n, training interactions of the user")
            axis.set_xscale("log")
            _count_ticks(axis.xaxis, found.n)
        return svg(figure, "influence")


def calibration(found: Calibration) -> str:
    """Buyers in the test part against expected demand, by tag and by ten groups of items."""
    several = len(found.labels) > 1
    with new_figure(4.1, 1, 2 if several else 1) as (figure, axes):
        for axis in axes:
            mean = axis.axhline(found.overall.value, color=QUIET, linewidth=1, linestyle=":")
        axis = axes[-1]
        axis.set_title("By expected demand")
        axis.vlines(found.predicted, [each.low for each in found.buyers], [each.high for each in found.buyers],
                    color=OURS, linewidth=1.8)  # fmt: skip
        axis.plot(found.predicted, [each.value for each in found.buyers], "o-", color=OURS, markersize=5, linewidth=0.8)
        kinds = _by_label(axes[0], found) if several else []
        for each in axes:
            each.set_xlabel("expected demand, percentile of the catalogue (mean)")
            each.set_ylabel("buyers in the test part, mean per item")
            each.set_ylim(bottom=0)
        axis.set_xlim(0, 100)
        figure.legend([*kinds, mean], [*(str(kind.get_label()) for kind in kinds), "mean of all items"], ncols=6,
                      loc="outside upper left")  # fmt: skip
        if several:
            _name_labels(figure, axes[0], found.labels)
        return svg(figure, "calibration")


def _by_label(axis: Axes, found: Calibration) -> list[Line2D]:
    axis.set_title("By tag")
    kinds = []
    for group in sorted({label.group for label in found.labels}):
        colour, marker = _GROUPS.get(group, (QUIET, "o"))
        mine = [label for label in found.labels if label.group == group]
        x = [label.predicted for label in mine]
        axis.vlines(x, [label.buyers.low for label in mine], [label.buyers.high for label in mine], color=colour,
                    linewidth=1, alpha=0.45)  # fmt: skip
        kinds += axis.plot(x, [label.buyers.value for label in mine], marker, color=colour, markersize=6, label=group)
    axis.margins(x=0.12, y=0.1)
    return kinds


def _name_labels(figure: Figure, axis: Axes, labels: Sequence[Label]) -> None:
    """Write names beside the dots, the most frequent first; omit names that would cover another name or a dot."""
    figure.draw_without_rendering()  # limits and layout are final only now
    dots = axis.transData.transform([(label.predicted, label.buyers.value) for label in labels])
    boxes: list[Any] = []
    for label in labels:
        name = axis.annotate(price_band(label.name), (label.predicted, label.buyers.value), xytext=(6, 4),
                             textcoords="offset points", fontsize=8.5)  # fmt: skip
        box = name.get_window_extent().padded(2)
        if box.count_contains(dots) or box.x1 > axis.bbox.x1 or any(box.overlaps(other) for other in boxes):
            name.remove()
        else:
            boxes.append(box)


def coverage(panels: Mapping[tuple[str, str], Mapping[str, float]]) -> str:
    """Shares by method, one panel for each title and axis label; coldstart on top."""
    methods = list(dict.fromkeys(method for shares in panels.values() for method in shares))
    lines, columns = _grid(len(panels))
    places = {method: -place for place, method in enumerate(methods)}
    with new_figure((0.9 + 0.24 * len(methods)) * lines, lines, columns, sharey=True) as (figure, axes):
        for axis, ((title, label), shares) in zip(axes, panels.items(), strict=False):
            for method, share in shares.items():
                colour = OURS if places[method] == 0 else QUIET
                axis.plot([0, 100 * share], [places[method]] * 2, color=colour, linewidth=1.5)
                axis.plot(100 * share, places[method], "o", color=colour, markersize=6)
                axis.annotate(f"{100 * share:.0f}", (100 * share, places[method]), xytext=(7, 0), va="center",
                              textcoords="offset points", fontsize=8.5)  # fmt: skip
            axis.set_xlim(0, 115)
            axis.set_xticks(range(0, 101, 25))
            axis.set_title(title)
            axis.set_xlabel(label)
            _name_methods(axis, places)
        return svg(figure, "coverage")


def _name_methods(axis: Axes, places: Mapping[str, int]) -> None:
    axis.set_yticks(list(places.values()), list(places))
    axis.set_ylim(-len(places) + 0.4, 0.6)
    axis.grid(axis="y", visible=False)


def _grid(panels: int, widest: int = 3) -> tuple[int, int]:
    """Return the numbers of rows and columns; four panels are drawn two by two.

    >>> _grid(2), _grid(4), _grid(5)
    ((1, 2), (2, 2), (2, 3))
    """
    columns = 2 if panels == 4 else min(widest, panels)
    return -(-panels // columns), columns


@contextmanager
def new_figure(height: float, lines: int, columns: int, sharey: bool = False) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure with the report's width."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH if columns > 1 else 0.62 * _WIDTH, height), layout="constrained")
        yield figure, list(figure.subplots(lines, columns, squeeze=False, sharey=sharey).ravel())


def svg(figure: Figure, name: str) -> str:
    """Return the drawing as an element of a page: no prologue, no namespaces, ids with the figure's name."""
    for axis in figure.axes:
        if not axis.has_data():
            axis.remove()
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    head, rest = drawing.split(">", 1)
    head = re.sub(r' (xmlns(:\w+)?|width|height|version)="[^"]*"', "", head)
    rest = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", rest)
    # The drawn width, so that all plots have one letter size.
    return f'{head} aria-hidden="true" style="max-width: {_REM_PER_INCH * figure.get_figwidth():.1f}rem">{rest}'


def _count_ticks(axis: Axis, values: Iterable[float]) -> None:
    """Label a logarithmic axis with plain numbers: 1, 2, 5, 10, 20, …, or only 1, 10, 100 if these are too many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    given = [value for value in values if value > 0]
    decades = np.log10(max(given) / min(given)) if given else 0
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < _MOST_DECADES else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_locator(NullLocator())


def price_band(label: str) -> str:
    """Format a price band for people.

    >>> price_band("2^3"), price_band("red")
    ('8–16', 'red')
    """
    power = re.fullmatch(r"2\^(-?\d+)", label)
    return f"{2.0 ** int(power[1]):g}–{2.0 ** (int(power[1]) + 1):g}" if power else label
