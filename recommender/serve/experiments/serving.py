"""`Experiments`: what a worker shows to users who are in experiments."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from coldstart_client import models as schemas
from coldstart_client.experiments import Arm
from coldstart_udfs.errors import ColdStartError
from recommender.model.fitted import Fitted
from recommender.serve.answers import Answers, Encoded, Moment
from recommender.serve.experiments.assignment import Running
from recommender.serve.experiments.exposures import ExposureLog
from recommender.serve.experiments.interleaving import drafted
from recommender.serve.experiments.registry import Registry
from recommender.serve.experiments.variants import Variant
from recommender.serve.live import Live
from recommender.serve.logs import log, place_of

# Seconds after which a worker sees that an experiment was started or stopped, and after which exposures are written.
POLL_SECONDS = 0.5
# What answers say in place of an arm.
INTERLEAVED = "interleaved"


@dataclass(frozen=True)
class _Now:
    """What runs, and the bundles of arms; replaced as a whole.

    Attributes:
        running: what this worker can show, by name.
        bundles: what arms with bundles of their own know, by id.
        changed: states with the parameters of arms, and the state that each was made from; by the bundle that an arm
            names, None for the serving one, so that no state of an earlier serving bundle is kept.
    """

    running: Mapping[str, Running]
    bundles: Mapping[str, Live]
    changed: dict[tuple[str | None, Variant], tuple[Fitted, Fitted]] = field(default_factory=dict)


@dataclass(frozen=True)
class Assigned:
    """The experiments that a user is in.

    Attributes:
        arms: by the name of the experiment.
        known: what ran when the user was assigned, so that an arm that is stopped meanwhile can still be answered.
        explores: whether their lists have explored places.
        interleaved: the experiment whose two arms fill their lists; None if there is none.
    """

    arms: Mapping[str, Arm]
    known: _Now
    explores: bool = True
    interleaved: Running | None = None

    @property
    def exploration(self) -> float | None:
        """The share of a list's places for exploration; None is that of the service."""
        shares = (arm.exploration for arm in self.arms.values() if arm.exploration is not None)
        return next(shares, None) if self.explores else 0.0


# A user who is in no experiment.
NOBODY = Assigned({}, _Now({}, {}))


class Experiments:
    """The experiments as one worker knows them. It looks at the database from time to time, as `Live` does.

    An experiment of which an arm's bundle cannot be loaded here assigns nobody here, to any arm: the arms stay
    comparable.

    Args:
        registry: what was created, started and stopped.
        exposures: collects who was shown what.
        live: the serving recommender.
        load: loads a kept bundle by its id, and follows the event log.
        release: called with the ids of the bundles that experiments use, when it may have changed.
        poll: seconds between two looks; None: only `refresh` looks.
    """

    def __init__(
        self, registry: Registry, exposures: ExposureLog, live: Live, load: Callable[[str], Live],
        release: Callable[[set[str]], None] = lambda _: None, *, poll: float | None = POLL_SECONDS,
    ) -> None:  # fmt: skip
        self._registry, self._exposures, self._live, self._load = registry, exposures, live, load
        self._release = release
        self._now = _Now({}, {})
        self._failing: dict[str, str] = {}
        self._wanted: set[str] | None = None
        self._stopped = threading.Event()
        self.refresh()
        self._thread = threading.Thread(target=self._poll, args=(poll,), daemon=True) if poll is not None else None
        if self._thread:
            self._thread.start()

    @property
    def running(self) -> bool:
        """Whether any experiment runs."""
        return bool(self._now.running)

    def of(self, user_id: str | None, tier: Callable[[], str]) -> Assigned:
        """The arms of a user; guests without an id are in no experiment.

        Args:
            user_id: who.
            tier: says what is known of them; called if an experiment is of one tier alone.
        """
        known = self._now
        running = known.running
        if not running or not user_id:
            return NOBODY
        if any(one.spec.tier is not None for one in running.values()):
            mine = tier()
            running = {name: one for name, one in running.items() if one.spec.tier in (None, mine)}
        theirs = {name: one for name, one in running.items() if one.has(user_id)}
        arms = {name: one.arm_of(user_id) for name, one in theirs.items() if one.spec.kind == "ab"}
        both = next((one for one in theirs.values() if one.spec.kind == "interleaving"), None)
        explores = all(one.spec.explores for one in theirs.values())
        return Assigned({name: arm for name, arm in arms.items() if arm is not None}, known, explores, both)

    def moment(self, now: Moment, assigned: Assigned, also: Arm | None = None) -> Moment:
        """What the answers of a user with these arms are made from.

        Args:
            now: what others' answers are made from.
            assigned: see `of`.
            also: one arm more.
        """
        arms = [*assigned.arms.values(), *([also] if also else [])]
        if not arms:
            return now
        bundle = next((arm.bundle for arm in arms if arm.bundle is not None), None)
        known = assigned.known
        if bundle is not None and bundle != now.bundle:
            live = known.bundles.get(bundle)
            if live is None:  # another bundle was promoted a moment ago
                return now
            now = Moment(live.model.fitted, live.base, live.bundle_id)
        variant = Variant.of(arms)
        before, fitted = known.changed.get((bundle, variant), (None, now.fitted))
        if before is not now.fitted:
            fitted = variant.applied(now.fitted)
            known.changed[bundle, variant] = now.fitted, fitted
        return replace(now, fitted=fitted)

    def shown(
        self, answer: schemas.Recommendations, user_id: str | None, assigned: Assigned
    ) -> schemas.Recommendations:
        """An answer that says which arms it is of; that the user was exposed to them is noted."""
        if user_id is None or assigned is NOBODY:
            return answer
        for name, arm in assigned.arms.items():
            self._exposures.add(name, user_id, arm.name, answer.recommendation_id, self._live.watermark)
        names = {name: arm.name for name, arm in assigned.arms.items()}
        names |= {assigned.interleaved.spec.name: INTERLEAVED} if assigned.interleaved else {}
        return answer.model_copy(update={"experiments": names})

    def assign(
        self, answers: Answers, now: Moment, request: schemas.Asker, said: Encoded | None
    ) -> tuple[Assigned, Moment]:
        """The arms of who asks, and what their answers are made from unless two arms are interleaved."""
        assigned = self.of(request.user_id, lambda: answers.tier(now, request, said))
        return assigned, self.moment(now, assigned)

    def explain(
        self, answers: Answers, now: Moment, request: schemas.ExplainRequest, said: Encoded | None
    ) -> schemas.Explanation:
        """The terms of one score, as the arms of the user have them."""
        return answers.explain(self.assign(answers, now, request, said)[1], request, said)

    def interleaved(
        self, answers: Answers, now: Moment, request: schemas.RecommendRequest, said: Encoded | None,
        assigned: Assigned, both: Running,
    ) -> schemas.Recommendations:  # fmt: skip
        """A list that two arms fill in turns, without exploration; which arm each item is of is noted."""
        lists = [answers.recommend(self.moment(now, assigned, arm), request, said) for arm in both.spec.arms]
        first, second = ({item.item_id: item for item in one.items} for one in lists)
        answer = lists[0]
        picked = drafted([*first], [*second], request.pin, f"{both.seed} {answer.recommendation_id}")
        items = [
            (first if team < 1 else second)[item].model_copy(update={"rank": rank})
            for rank, (item, team) in enumerate(picked, start=1)
        ]
        teams = {item: both.spec.arms[team].name for item, team in picked if team >= 0}
        self._exposures.add(
            both.spec.name, request.user_id or "", "", answer.recommendation_id, self._live.watermark,
            json.dumps(teams, ensure_ascii=False),
        )  # fmt: skip
        return answer.model_copy(update={"items": items})

    def refresh(self) -> None:
        """See what runs now; load and close bundles of arms.

        Raises:
            EventLogError: the database cannot be read; what ran goes on.
        """
        running = self._registry.running()
        named = {arm.bundle for one in running.values() for arm in one.spec.arms if arm.bundle is not None}
        wanted = named - {self._live.bundle_id}
        self._publish(running, {name: live for name, live in self._now.bundles.items() if name in wanted})
        if wanted != self._wanted:
            self._release(wanted)
            self._wanted = wanted
        for name in sorted(wanted - set(self._now.bundles)):
            try:
                loaded = self._load(name)
            except Exception as error:  # whatever is wrong with it, other experiments go on
                self._tell(name, _why(error))
            else:
                self._tell(name, None)
                self._publish(running, {**self._now.bundles, name: loaded})

    def flush(self) -> None:
        """Write the exposures that were noted.

        Raises:
            EventLogError: the database cannot be written; they are kept for the next time.
        """
        self._exposures.flush()

    def close(self) -> None:
        """Stop looking, write what is left, and close the bundles of arms."""
        self._stopped.set()
        if self._thread:
            self._thread.join()
        with contextlib.suppress(ColdStartError):
            self.flush()
        for live in self._now.bundles.values():
            live.close()

    def _publish(self, running: Mapping[str, Running], bundles: Mapping[str, Live]) -> None:
        """Show what can be shown with these bundles."""
        there = {*bundles, self._live.bundle_id, None}
        shown = {
            name: one for name, one in running.items()
            if all(arm.bundle in there for arm in one.spec.arms)
        }  # fmt: skip
        before = self._now
        if shown.keys() == before.running.keys() and bundles.keys() == before.bundles.keys():
            return
        self._now = _Now(shown, bundles)
        if shown.keys() != before.running.keys():
            log.info("experiments", running=sorted(shown))
        for name in before.bundles.keys() - bundles.keys():
            before.bundles[name].close()

    def _tell(self, bundle: str, why: str | None) -> None:
        if self._failing.get(bundle) != why:
            log.warning("bundle of an arm", bundle=bundle, failing=why)
            self._failing = {**{name: said for name, said in self._failing.items() if name != bundle},
                             **({bundle: why} if why else {})}  # fmt: skip

    def _poll(self, seconds: float) -> None:
        failing = False
        while not self._stopped.wait(seconds):
            try:
                self.refresh()
                self.flush()
                failing = False
            except Exception as error:  # what ran goes on, and exposures wait
                if not failing:
                    log.warning("experiments", failing=_why(error))
                failing = True


def _why(error: Exception) -> str:
    # Other errors than ours may hold what users said.
    return str(error) if isinstance(error, ColdStartError) else " ".join(place_of(error).values())
