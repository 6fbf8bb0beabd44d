"""Experiments in the database of the event log: made, started, stopped and listed."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, insert, select, update

from coldstart_client.experiments import Experiment, ExperimentRequest, State
from coldstart_udfs.errors import ColdStartError
from recommender.pipeline.bundles import kept
from recommender.serve.events import schema
from recommender.serve.events.log import EventLog
from recommender.serve.events.rows import from_us, to_us
from recommender.serve.experiments.assignment import BUCKETS, Running, free_buckets
from recommender.serve.logs import log as lines

_TABLE = schema.experiments


class UnknownExperimentError(ColdStartError):
    """There is no experiment of this name."""


class ExperimentStateError(ColdStartError):
    """The state of an experiment, or of others beside it, does not allow what was asked for."""


class Registry:
    """The experiments of a shop, which all workers and the command line share.

    Args:
        log: the event log.
        bundle: the folder of the serving bundle, beside which arms' bundles are kept; None does not look at them.
    """

    def __init__(self, log: EventLog, bundle: Path | None = None) -> None:
        self._log, self._bundle = log, bundle
        self._told: set[str] = set()

    def create(self, spec: ExperimentRequest) -> Experiment:
        """Keep an experiment as a draft. The same request again changes nothing.

        Raises:
            ExperimentStateError: another experiment has the name.
            ColdStartError: the bundle of an arm is not kept.
            EventLogError: the database cannot be written.
        """
        self._check_bundles(spec)
        seed = spec.seed or secrets.token_hex(8)
        row = {
            "name": spec.name, "layer": spec.layer, "state": "draft", "created_us": to_us(datetime.now(UTC)),
            "spec": spec.model_copy(update={"seed": seed}).model_dump_json(),
        }  # fmt: skip

        def write(connection: Connection) -> Any:
            _lock(connection)
            found = connection.execute(select(_TABLE).where(_TABLE.c.name == spec.name)).first()
            if found is None:
                connection.execute(insert(_TABLE), row)
                return connection.execute(select(_TABLE).where(_TABLE.c.name == spec.name)).one()
            kept_spec = _experiment(found).spec
            if kept_spec != spec.model_copy(update={"seed": spec.seed or kept_spec.seed}):
                raise ExperimentStateError(
                    f"there is another experiment {spec.name!r} ({found.state}); choose another name"
                )
            return found

        return _experiment(self._log.transaction(write))

    def start(self, name: str, *, instead_of: str | None = None) -> Experiment:
        """Assign users from now on. Workers notice it within about a second.

        Args:
            name: of the experiment.
            instead_of: the name of one that is stopped in the same moment.

        Raises:
            UnknownExperimentError: there is none of this name.
            ExperimentStateError: it was stopped, its layer has no room, or another layer changes the same.
            ColdStartError: the bundle of an arm is not kept any more.
        """
        self._check_bundles(self.get(name).spec)

        def write(connection: Connection) -> Any:
            found = _found(connection, name)
            if found.state == "stopped":
                raise ExperimentStateError(
                    f"experiment {name!r} was stopped, and its users have seen it; create another one"
                )
            if found.state == "draft":
                spec = _experiment(found).spec
                if instead_of is not None:
                    _stop(connection, instead_of)
                running = connection.execute(select(_TABLE).where(_TABLE.c.state == "running")).all()
                buckets = _room(spec, running)
                _check_layers(spec, [_experiment(one).spec for one in running])
                now = to_us(datetime.now(UTC))
                changes = {"state": "running", "started_us": now, "buckets": json.dumps(buckets)}
                connection.execute(update(_TABLE).where(_TABLE.c.name == name).values(**changes))
            return _row(connection, name)

        return _experiment(self._log.transaction(write))

    def stop(self, name: str) -> Experiment:
        """Assign nobody any more. It cannot be started again; its report stays.

        Raises:
            UnknownExperimentError: there is none of this name.
        """

        def write(connection: Connection) -> Any:
            _stop(connection, name)
            return _row(connection, name)

        return _experiment(self._log.transaction(write))

    def get(self, name: str) -> Experiment:
        """One experiment.

        Raises:
            UnknownExperimentError: there is none of this name.
            EventLogError: the database cannot be read.
        """
        with self._log.reading() as connection:
            return _experiment(_row(connection, name))

    def all(self) -> list[Experiment]:
        """All experiments, the newest first."""
        with self._log.reading() as connection:
            rows = connection.execute(select(_TABLE).order_by(_TABLE.c.created_us.desc(), _TABLE.c.name)).all()
        return [_experiment(row) for row in rows]

    def running(self) -> dict[str, Running]:
        """What assigns users now, by name. An experiment that another version has written may be unreadable, and
        assigns nobody here; the log of the process says so.

        Raises:
            EventLogError: the database cannot be read.
        """
        with self._log.reading() as connection:
            rows = connection.execute(
                select(_TABLE).where(_TABLE.c.state == "running").order_by(_TABLE.c.started_us, _TABLE.c.name)
            ).all()
        found = {}
        for row in rows:
            try:
                found[row.name] = _running(row)
            except ExperimentStateError as error:
                if row.name not in self._told:
                    lines.warning("experiments", unreadable=row.name, why=str(error))
                self._told.add(row.name)
        return found

    def _check_bundles(self, spec: ExperimentRequest) -> None:
        if self._bundle is None:
            return
        ids = {one.id for one in kept(self._bundle)}
        for arm in spec.arms:
            if arm.bundle is not None and arm.bundle not in ids:
                raise ColdStartError(
                    f"arm {arm.name!r} names the bundle {arm.bundle}, which is not kept beside {self._bundle}; kept "
                    f"are {', '.join(sorted(ids)) or 'none'}"
                )


def _lock(connection: Connection) -> None:
    """Let no other process write until the transaction has ended."""
    state = schema.log_state
    connection.execute(update(state).values(last=state.c.last))


def _found(connection: Connection, name: str) -> Any:
    _lock(connection)
    return _row(connection, name)


def _stop(connection: Connection, name: str) -> None:
    if _found(connection, name).state != "stopped":
        changes = {"state": "stopped", "stopped_us": to_us(datetime.now(UTC))}
        connection.execute(update(_TABLE).where(_TABLE.c.name == name).values(**changes))


def _row(connection: Connection, name: str) -> Any:
    found = connection.execute(select(_TABLE).where(_TABLE.c.name == name)).first()
    if found is None:
        names = connection.execute(select(_TABLE.c.name).order_by(_TABLE.c.created_us.desc()).limit(10)).scalars().all()
        raise UnknownExperimentError(f"there is no experiment {name!r}; there are {', '.join(names) or 'none'}")
    return found


def _room(spec: ExperimentRequest, running: Sequence[Any]) -> list[int]:
    """The buckets that an experiment gets."""
    beside = [one for one in running if one.layer == spec.layer]
    taken = [bucket for one in beside for bucket in json.loads(one.buckets)]
    buckets = free_buckets(spec.share, taken)
    if buckets is None:
        raise ExperimentStateError(
            f"experiment {spec.name!r} needs {spec.share:.1%} of the layer {spec.layer!r}, and "
            f"{1 - len(taken) / BUCKETS:.1%} is free beside {', '.join(one.name for one in beside)}; stop one of them, "
            "take a smaller share, or create it in another layer"
        )
    return buckets


_BUNDLE, _SHARE, _LIST = "the bundle", "the share of exploration", "the list by interleaving"
_CHANGES: dict[str, Callable[[ExperimentRequest], bool]] = {
    _BUNDLE: lambda spec: any(arm.bundle is not None for arm in spec.arms),
    _SHARE: lambda spec: any(arm.exploration is not None for arm in spec.arms),
    _LIST: lambda spec: spec.kind == "interleaving",
}
# Nothing is explored in interleaved lists, and where bundles are compared.
_APART = [*((what, what) for what in _CHANGES), (_SHARE, _BUNDLE), (_SHARE, _LIST), (_BUNDLE, _SHARE), (_LIST, _SHARE)]


def _check_layers(spec: ExperimentRequest, running: list[ExperimentRequest]) -> None:
    """A user of two layers gets the parameters of both; what cannot be combined is refused."""
    others = [
        other for other in running
        if other.layer != spec.layer and (None in (spec.tier, other.tier) or spec.tier == other.tier)
    ]  # fmt: skip
    for mine, of_other in _APART:
        both = [other.name for other in others if _CHANGES[mine](spec) and _CHANGES[of_other](other)]
        if both:
            also = f"as {both[0]!r} of another layer does"
            if mine != of_other:
                also = (
                    f"and {both[0]!r} of another layer {of_other}; nothing is explored where bundles are compared or "
                    "lists interleaved"
                )
            raise ExperimentStateError(f"experiment {spec.name!r} changes {mine}, {also}; create it in that layer")


def _experiment(row: Any) -> Experiment:
    state: State = row.state
    try:
        spec = ExperimentRequest.model_validate_json(row.spec)
    except ValidationError as error:
        raise ExperimentStateError(
            f"this version cannot read the experiment {row.name!r}, which another version has written: "
            f"{error.errors()[0]['msg']}; use that version, or a newer one"
        ) from None
    return Experiment(
        name=row.name, state=state, spec=spec, created=from_us(row.created_us),
        started=None if row.started_us is None else from_us(row.started_us),
        stopped=None if row.stopped_us is None else from_us(row.stopped_us),
    )  # fmt: skip


def _running(row: Any) -> Running:
    spec = _experiment(row).spec
    return Running(spec, str(spec.seed), frozenset(json.loads(row.buckets)))
