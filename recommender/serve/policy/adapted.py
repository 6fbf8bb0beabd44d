"""Adapting parameters of the running service: rounds are experiments, and a journal says what was changed and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coldstart_client.experiments import Arm, ExperimentRequest, Metric, Report
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text
from coldstart_udfs.locks import writing
from recommender.serve.events.log import EventLog
from recommender.serve.experiments.registry import Registry
from recommender.serve.experiments.report import report_of
from recommender.serve.policy.adapting import Adaptive, Kind, Move, better, values_of

_COMMAND = "coldstart adapt"


class Adaptation:
    """The parameters that adapt.

    A line is written to the journal before the experiments are changed, and what the journal says is done again where
    it was not finished. So an interrupted command leaves nothing in between.

    Args:
        log: the event log, in which the experiments are.
        journal: a file of JSON lines, oldest first; it need not exist.
    """

    def __init__(self, log: EventLog, journal: Path) -> None:
        self._log, self._journal, self._registry = log, journal, Registry(log)

    def moves(self) -> list[Move]:
        """The journal, oldest first."""
        if not self._journal.exists():
            return []
        return [Move.of_json(json.loads(line)) for line in self._journal.read_text(encoding="utf-8").splitlines()]

    def begin(self, adaptive: Adaptive, value: float) -> Move:
        """Let a parameter adapt from a value on.

        Raises:
            ColdStartError: it adapts already, the value is out of bounds, or another experiment is in its way.
        """
        adaptive.check(value)
        with self._changing():
            before = self._of(adaptive.name)
            if before and before[-1].kind != "ended":
                raise ColdStartError(
                    f"{adaptive.name} adapts already, from {before[-1].after:g} in round {before[-1].round}; "
                    f"`{_COMMAND} end {adaptive.name}` ends it"
                )
            for other in (move.adaptive for move in self._latest()):
                if other.parameter == adaptive.parameter and None in (other.tier, adaptive.tier):
                    raise ColdStartError(
                        f"{other.name} adapts already, and {adaptive.name} would change it for the same users; "
                        f"`{_COMMAND} end {other.name}` ends it"
                    )
            last = before[-1].round if before else 0
            return self._next("begun", adaptive, value, value, last + 1, "by hand", {})

    def step(self) -> list[Move]:
        """Look at all rounds: move to the side that is better with certainty, and begin rounds anew that are over.

        Returns:
            What was changed.

        Raises:
            EventLogError: the database cannot be read or written.
        """
        found = []
        with self._changing():
            for last in self._latest():
                self._run(last)
                report = report_of(self._log, self._registry.get(last.experiment))
                if (move := self._judged(last, report)) is not None:
                    found.append(move)
        return found

    def undo(self, name: str) -> Move:
        """Go back to the value before the last move; again, one further back. It goes on adapting from there.

        Raises:
            ColdStartError: the parameter does not adapt, or has not moved.
        """
        with self._changing():
            last = self._adapting(name)
            values = values_of(self._of(name))
            if len(values) < 2:
                raise ColdStartError(f"{name} has its first value, {values[-1]:g}; there is no move to undo")
            return self._next("undone", last.adaptive, last.after, values[-2], last.round + 1, "by hand", {})

    def end(self, name: str) -> Move:
        """Let a parameter adapt no more: the service goes back to its own value.

        Raises:
            ColdStartError: the parameter does not adapt.
        """
        with self._changing():
            last = self._adapting(name)
            move = Move(_now(), "ended", last.round, last.after, last.after, "by hand", {}, last.adaptive)
            self._write([*self.moves(), move])
            self._registry.stop(last.experiment)
            return move

    def _judged(self, last: Move, report: Report) -> Move | None:
        complete = sum(arm.complete for arm in report.arms)
        bounds = {one.arm: (one.low, one.high) for one in report.metric if one.low is not None and one.high is not None}
        evidence: dict[str, Any] = {
            "experiment": last.experiment, "users": complete,
            "intervals": {arm: list(both) for arm, both in bounds.items()},
        }  # fmt: skip
        if report.sample_ratio.mismatch:
            why = (f"the arms do not have the users that were planned (p = {report.sample_ratio.p:.1g}), so the round "
                   "does not count; see what keeps users of an arm away")  # fmt: skip
            return self._next("stayed", last.adaptive, last.after, last.after, last.round + 1, why, evidence)
        arms = last.adaptive.arms(last.after)
        side = better({arm: both for arm, both in bounds.items() if arm in arms})
        if side is not None:
            why = f"{side} is better: {report.metric[0].metric} by {bounds[side][0]:.3g} or more"
            return self._next("moved", last.adaptive, last.after, arms[side], last.round + 1, why, evidence)
        if complete >= last.adaptive.users:
            why = f"no side was better by {complete:,} users"
            return self._next("stayed", last.adaptive, last.after, last.after, last.round + 1, why, evidence)
        return None

    def _next(
        self, kind: Kind, adaptive: Adaptive, before: float, after: float, number: int, why: str,
        evidence: dict[str, Any],
    ) -> Move:  # fmt: skip
        move = Move(_now(), kind, number, before, after, why, evidence, adaptive)
        moves = self.moves()
        self._write([*moves, move])
        try:
            self._run(move)
        except ColdStartError:
            self._write(moves)
            raise
        return move

    def _run(self, move: Move) -> None:
        """See that the round of a line runs, in place of the one before.

        Raises:
            ColdStartError: somebody has stopped it, or another experiment is in its way.
        """
        spec = _experiment(move)
        if self._registry.create(spec).state == "stopped":
            name = move.adaptive.name
            raise ColdStartError(
                f"experiment {spec.name!r}, in which {name} adapts, was stopped; `{_COMMAND} undo {name}` goes on from "
                f"an earlier value, `{_COMMAND} end {name}` ends it"
            )
        earlier = [name for name, one in self._registry.running().items()
                   if one.spec.layer == spec.layer and name != spec.name]  # fmt: skip
        self._registry.start(spec.name, instead_of=earlier[0] if earlier else None)

    def _of(self, name: str) -> list[Move]:
        return [move for move in self.moves() if move.adaptive.name == name]

    def _latest(self) -> list[Move]:
        """The last line of each parameter that adapts."""
        found = {move.adaptive.name: move for move in self.moves()}
        return [move for move in found.values() if move.kind != "ended"]

    def _adapting(self, name: str) -> Move:
        found = {move.adaptive.name: move for move in self._latest()}
        if name not in found:
            raise ColdStartError(
                f"{name!r} does not adapt; what does is {', '.join(found) or 'nothing'}; `{_COMMAND} begin` "
                "lets a parameter adapt"
            )
        return found[name]

    def _write(self, moves: Sequence[Move]) -> None:
        lines = [json.dumps(one.as_json(), ensure_ascii=False) + "\n" for one in moves]
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._journal, "".join(lines))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with writing(self._journal, command=_COMMAND, wait=30):
            yield


def _experiment(move: Move) -> ExperimentRequest:
    """The round of a line. The same line gives the same experiment."""
    adaptive = move.adaptive
    arms = [Arm.model_validate({"name": name, adaptive.parameter: value})
            for name, value in adaptive.arms(move.after).items()]  # fmt: skip
    return ExperimentRequest(
        name=move.experiment, arms=arms, layer=move.layer, tier=adaptive.tier,
        metric=Metric.model_validate({"event": adaptive.event, "measure": adaptive.measure}),
        window_days=adaptive.days, planned_users=adaptive.planned, error=adaptive.error_of(move.round),
        seed=move.experiment,
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
