"""What explored places earned: the events that cite them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from coldstart_udfs.errors import ColdStartError
from recommender.serve.policy.decisions import Decision

# The recommendation and the item that an event cites, its moment and its type.
Cited = tuple[str, str, datetime, str]


@dataclass(frozen=True)
class Explored:
    """Decisions whose rewards are known.

    Attributes:
        decisions: n of them.
        rewards: what each earned.
        waiting: the number of later decisions, which may still be rewarded, and are left out.
    """

    decisions: Sequence[Decision]
    rewards: Sequence[float]
    waiting: int = 0


def earned(
    decisions: Sequence[Decision], events: Iterable[Cited], rewards: Mapping[str, float], window: timedelta,
    newest: datetime | None,
) -> Explored:
    """Say what decisions earned.

    A decision earns the highest reward among the events that cite its recommendation and item, up to the end of the
    window after it, and 0 without one. Decisions whose window ends after the newest entry of the log are left out: what
    they earn is not known yet, and only those that were rewarded quickly would have earned something.

    Args:
        decisions: in any order.
        events: that cite them; others do no harm.
        rewards: of event types.
        window: how long after a decision an event counts.
        newest: the moment of the newest event of the log, whatever it cites; None without one.

    Raises:
        ColdStartError: events cite decisions, and none is of the types that are rewarded.
    """
    found: dict[tuple[str, str], list[tuple[datetime, float]]] = defaultdict(list)
    kinds: Counter[str] = Counter()
    for recommendation, item, at, kind in events:
        kinds[kind] += 1
        if kind in rewards:
            found[recommendation, item].append((at, rewards[kind]))
    if kinds and not found:
        raise ColdStartError(
            f"no {' or '.join(rewards)} cites an explored place; events of other types do: "
            f"{', '.join(f'{kind} ({count:,})' for kind, count in kinds.most_common(5))}"
        )
    moments = [decision.at for decision in decisions] + ([] if newest is None else [newest])
    closed = max(moments, default=None)
    known = [one for one in decisions if closed is not None and one.at + window <= closed]
    return Explored(known, [
        max((reward for at, reward in found.get((one.recommendation_id, one.item_id), ()) if at <= one.at + window),
            default=0.0)
        for one in known
    ], len(decisions) - len(known))  # fmt: skip
