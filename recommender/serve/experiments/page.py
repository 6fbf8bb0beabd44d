"""The report of an experiment as a page: one self-contained file."""

from __future__ import annotations

from pathlib import Path

from coldstart_client.experiments import Comparison, Report
from coldstart_udfs.files import write_text
from recommender.evaluation.report import figures
from recommender.serve.experiments.deciding import amount, change

_REPORT = Path(figures.__file__).parent


def write_page(report: Report, path: Path) -> None:
    """Write the page. If an error occurs, nothing is written.

    Args:
        report: see `recommender.serve.experiments.report.report_of`.
        path: the HTML file.

    Raises:
        ColdStartError: matplotlib is not installed.
    """
    figures.require_matplotlib()
    write_text(path, page_of(report))


def page_of(report: Report) -> str:
    """The page; names are escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    page = Environment(
        loader=FileSystemLoader([Path(__file__).parent, _REPORT]), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=StrictUndefined,
    ).get_template("page.html.jinja")  # fmt: skip
    spec = report.experiment.spec
    return page.render(
        report=report, spec=spec, share=spec.metric.is_share, change=change, amount=amount,
        against={one.arm: one for one in report.metric},
        drawings=[(one, sequence_drawing(one, f"sequence{place}")) for place, one in enumerate(report.metric)],
    )  # fmt: skip


def sequence_drawing(one: Comparison, name: str) -> str:
    """The difference and its interval over the users, as SVG; "" if there is none yet."""
    points = one.sequence
    if not points:
        return ""
    factor = 100 if one.share else 1
    users = [point.users for point in points]
    lows, highs = [factor * point.low for point in points], [factor * point.high for point in points]
    with figures.new_figure(3.4, 1, 2) as (figure, axes):
        figure.delaxes(axes[1])
        axis = figure.add_subplot(1, 1, 1)
        figure.delaxes(axes[0])
        axis.axhline(0, color="black", linewidth=1)
        axis.fill_between(users, lows, highs, color=figures.OURS, alpha=0.15, linewidth=0)
        for bound in (lows, highs):
            axis.plot(users, bound, color=figures.OURS, linewidth=1)
        axis.plot(users, [factor * point.difference for point in points], color=figures.OURS, linewidth=1.8)
        # The first intervals are so wide that nothing else could be seen.
        half = sorted(highs)[len(highs) // 2], sorted(lows)[len(lows) // 2]
        reach = 1.6 * max(abs(half[0]), abs(half[1]), abs(highs[-1]), abs(lows[-1]))
        axis.set_ylim(-reach, reach)
        axis.set_xlim(0, users[-1])
        axis.set_xlabel("users whose window is over, in the order in which they came")
        axis.set_ylabel("difference" + (", percentage points" if one.share else ""))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        return figures.svg(figure, name)
