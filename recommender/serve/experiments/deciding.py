"""The decision of a report, in words for those who decide."""

from __future__ import annotations

from coldstart_client.experiments import Comparison, ExperimentRequest, Preferred, Report


def decision(report: Report) -> str:
    """What to do, and why, in one to three sentences."""
    spec, experiment = report.experiment.spec, report.experiment
    ratio = report.sample_ratio
    if experiment.state == "draft":
        return f"Not started. Start it with `coldstart experiment start {experiment.name}`."
    if ratio.mismatch:
        seen = ", ".join(f"{name} {count:,}" for name, count in ratio.seen.items())
        return (
            f"Do not use these numbers. The arms do not have the planned shares of the users ({seen}), and chance "
            "does not explain it. Find out why some users are not counted, then begin again."
        )
    harmed = [one for one in report.guards if one.verdict == "worse"]
    if harmed:
        one = harmed[0]
        return f"Stop {_quoted(one.arm)}: it does harm to a guard, {one.metric}. {_difference(one)}"
    _, complete = _users(report)
    if not complete:
        return f"Too early. {_waiting(report)}"
    if report.preference is not None:
        return preferred(report, report.preference)
    if all(one.low is None for one in report.metric):
        return f"Too early: {complete:,} users are too few for an interval. {_waiting(report)}"
    better = [one for one in report.metric if one.verdict == "better"]
    if better:
        best = max(better, key=lambda one: one.low or 0.0)
        return f"Use {_quoted(best.arm)}: it is better than {_quoted(spec.arms[0].name)}. {_difference(best)}"
    if all(one.verdict == "worse" for one in report.metric):
        return f"Keep {_quoted(spec.arms[0].name)}: the other arms are worse. {_difference(report.metric[0])}"
    after = _again(spec) if experiment.state == "running" else f"It is over: keep {_quoted(spec.arms[0].name)}."
    return " ".join([
        "No difference is shown yet." if experiment.state == "running" else "No difference was shown.",
        *(_difference(one) for one in report.metric if one.verdict == "open"), after,
    ])  # fmt: skip


def preferred(report: Report, found: Preferred) -> str:
    """What an interleaved experiment says."""
    first, second = (_quoted(arm.name) for arm in report.experiment.spec.arms)
    decided = sum(found.users.values())
    if found.share is None:
        return "Too early: no user has shown a preference."
    said = (
        f"Of {decided:,} users who took more of one arm's items, {found.share:.0%} took those of {second}; almost "
        f"certainly between {found.low:.0%} and {found.high:.0%} of all such users do."
    )
    if found.verdict == "better":
        return f"Users prefer {second} to {first}. {said}"
    if found.verdict == "worse":
        return f"Users prefer {first} to {second}. {said}"
    return f"No preference is shown yet. {said}"


def _difference(one: Comparison) -> str:
    if one.low is None or one.high is None:
        return ""
    relative = "" if one.relative is None else f" ({one.relative:+.1%} relative)".replace("-", "−")
    return (
        f"{one.metric[0].upper()}{one.metric[1:]}: {change(one.difference, one.share)}{relative}, and almost certainly "
        f"between {change(one.low, one.share)} and {change(one.high, one.share)}."
    )


def _again(spec: ExperimentRequest) -> str:
    return (
        "You may look as often as you like. Go on, or stop if a difference within these bounds does not matter to you: "
        f"then keep {_quoted(spec.arms[0].name)}."
    )


def _waiting(report: Report) -> str:
    users, complete = _users(report)
    days = report.experiment.spec.window_days
    if not users:
        return "No user was exposed."
    window = f"{days:g} day{'' if days == 1 else 's'}"
    return f"{users - complete:,} of {users:,} users have not had their {window} yet after they first saw an arm."


def _users(report: Report) -> tuple[int, int]:
    """How many were exposed, and how many of them are analysed; users of interleaving are in both arms."""
    arms = report.arms if report.preference is None else report.arms[:1]
    return sum(arm.users for arm in arms), sum(arm.complete for arm in arms)


def _quoted(name: str) -> str:
    return f"“{name}”"


def change(value: float | None, share: bool) -> str:
    """A difference for people: of shares in percentage points.

    >>> change(-0.0123, True), change(0.5, False), change(None, True)
    ('−1.23 points', '+0.5', '–')
    """
    if value is None:
        return "–"
    return (f"{100 * value:+.2f} points" if share else f"{value:+.4g}").replace("-", "−")


def amount(value: float | None, share: bool) -> str:
    """A metric for people.

    >>> amount(0.0123, True), amount(12.5, False), amount(None, True)
    ('1.23 %', '12.5', '–')
    """
    return "–" if value is None else f"{100 * value:.2f} %" if share else f"{value:.4g}"
