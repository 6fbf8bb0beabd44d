"""Learning from explored places: the same posterior in every worker, from the database alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from recommender.data.events import EventWeights
from recommender.serve.events.leases import Lease
from recommender.serve.events.log import EventLog
from recommender.serve.live import Live
from recommender.serve.policy.contexts import WIDTH, Contexts
from recommender.serve.policy.drawing import Policy
from recommender.serve.policy.explorations import Explorations
from recommender.serve.policy.sampler import Evidence


class Learner:
    """Follows the rewards of explored places; one of the workers finds out what they are.

    A reward is known when its window has passed: until then a place without one says nothing, and a place with one
    would say too much beside it. Which events counted is then written down, so all workers, and a worker that starts
    again, add up the same rewards in the same order. After a user was erased the sums are made again without them, and
    after another bundle was promoted in its scale.

    Args:
        live: what this worker knows.
        log: the event log, which all workers share.
        window: seconds after an answer in which an event counts as its reward.
        weights: by event type.

    Attributes:
        policy: what is drawn by now; it does not change, a request reads it once.
    """

    def __init__(self, live: Live, log: EventLog, window: float, weights: EventWeights) -> None:
        self._live, self._window, self._weights = live, window, weights
        self._explorations = Explorations(log)
        self._lease = Lease(log, "exploration")
        self._explored = False
        self._begin()
        self._follow()

    def step(self) -> None:
        """Settle what is due, and take in what was settled.

        Raises:
            EventLogError: the database cannot be read or written.
        """
        self._explored = self._explored or self._explorations.any()
        if self._explored and self._lease.held():
            due = datetime.now(UTC) - timedelta(seconds=self._window)
            while self._explorations.settle(due, self._window, self._weights):
                pass
        self._follow()

    def close(self) -> None:
        """Leave settling to another worker.

        Raises:
            EventLogError: the database cannot be written.
        """
        if self._explored:
            self._lease.release()

    def _begin(self) -> None:
        """Forget what was shown, and go on in the scale of the bundle that serves."""
        # A copy, which takes what is derived from it along when it goes: 100 MB.
        bundle, base = self._live.bundle_id, replace(self._live.base)
        self._evidence, self._erasures = Evidence.nothing(WIDTH), self._explorations.erasures()
        self.policy = Policy(self._evidence.posterior(), Contexts.of(base), bundle, 0)

    def _follow(self) -> None:
        if self._live.bundle_id != self.policy.bundle or self._explorations.erasures() != self._erasures:
            self._begin()
        # Evidence and policy go on together: if the database cannot be read in between, nothing counts twice.
        while (found := self._explorations.settled(self.policy.settled)).items:
            policy = self.policy
            contexts = policy.contexts.refreshed(found.contexts, self._live.model.fitted, found.items)
            self._evidence.add(contexts, found.rewards, found.items)
            self.policy = Policy(self._evidence.posterior(), policy.contexts, policy.bundle, found.last)
