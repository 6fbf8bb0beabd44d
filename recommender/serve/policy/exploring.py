"""Exploration in the service: answers with new items in reserved places, none of which leaves before it is logged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart_client import models as schemas
from coldstart_udfs.errors import ColdStartError
from recommender.data.events import EventWeights
from recommender.serve.events.log import EventLog
from recommender.serve.live import Live
from recommender.serve.logs import log as lines
from recommender.serve.logs import place_of
from recommender.serve.metrics import Metrics
from recommender.serve.policy.decisions import Decision
from recommender.serve.policy.drawing import Draw
from recommender.serve.policy.explorations import Explorations
from recommender.serve.policy.learner import Learner
from recommender.serve.policy.slots import check_share

if TYPE_CHECKING:
    from recommender.serve.answers import Answers, Encoded, Moment

# For how many seconds an answer waits for the database, and for how long nothing is explored after it waited in vain.
PATIENCE, PAUSE = 0.5, 5.0


class Exploring:
    """Explores for one worker.

    Args:
        answers: makes answers.
        live: what this worker knows.
        log: the event log.
        share: of the places of lists; 0 explores none unless a request names another share.
        window: seconds after an answer in which an event counts as its reward.
        weights: by event type.
        metrics: of this worker.
        writing: runs what waits for the disk.

    Raises:
        ColdStartError: the share is out of range, or the database cannot be read.

    Attributes:
        learner: works beside the requests.
    """

    def __init__(
        self, answers: Answers, live: Live, log: EventLog, share: float, window: float, weights: EventWeights,
        metrics: Metrics, writing: Executor,
    ) -> None:  # fmt: skip
        self._answers, self._metrics, self._writing = answers, metrics, writing
        self._share, self._rest_until = check_share(share), 0.0
        self._explorations, self._rng = Explorations(log), generator()
        self.learner = Learner(live, log, window, weights)

    async def recommend(
        self, scored: Callable[..., Any], now: Moment, request: schemas.RecommendRequest, said: Encoded | None,
        share: float | None = None,
    ) -> schemas.Recommendations:
        """The best items for a user, and new ones in reserved places.

        What was drawn is on disk when this returns. If the database does not take it within half a second, the answer
        is the list without exploration, and nothing is explored for the next five seconds.

        Args:
            scored: runs arithmetic beside the event loop.
            now: what the answer is made from.
            request: the request.
            said: its text.
            share: of the places, such as that of an arm of an experiment; None is that of the service.

        Raises:
            UnknownIdError: see `Answers.recommend`.
            ColdStartError: likewise.
        """
        share, policy = self._share if share is None else check_share(share), self.learner.policy
        resting = time.monotonic() < self._rest_until or policy.bundle != now.bundle
        if share and request.explore and not resting:
            draw = Draw(policy, share, self._rng)
            answer: schemas.Recommendations
            answer, decisions = await scored(self._answers.explored, now, request, said, draw)
            if not decisions or await self._logged(decisions):
                self._count(answer, len(decisions))
                return answer
        answer = await scored(self._answers.recommend, now, request, said)
        self._count(answer, 0)
        return answer

    def measure(self) -> None:
        """Look at what was learned; to be called every few seconds."""
        posterior = self.learner.policy.posterior
        verdicts = list(posterior.verdicts.values())
        self._metrics.learned_places.set(sum(shown.n for shown in posterior.items.values()))
        for verdict in ("open", "above", "below", "average"):
            self._metrics.explored_items.labels(verdict).set(verdicts.count(verdict))

    def _count(self, answer: schemas.Recommendations, explored: int) -> None:
        self._metrics.places.inc(len(answer.items))
        self._metrics.explored.inc(explored)

    async def _logged(self, decisions: list[Decision]) -> bool:
        """Whether what was drawn is on disk; if not, it will not be."""
        given_up = False

        def write() -> None:
            if not given_up:
                self._explorations.add(decisions)

        task = self._writing.submit(write)
        waiting = asyncio.wrap_future(task)
        try:
            await asyncio.wait_for(asyncio.shield(waiting), PATIENCE)
            return True
        except (TimeoutError, ColdStartError) as error:
            given_up = True
            self._rest_until = time.monotonic() + PAUSE
            self._metrics.unexplored.inc()
            lines.warning("not explored", why=str(error) or f"the event log did not answer within {PATIENCE} s")
            waiting.add_done_callback(lambda late: self._take_back(late, decisions[0].recommendation_id))
            return False

    def _take_back(self, written: asyncio.Future[None], recommendation_id: str) -> None:
        if not written.cancelled() and written.exception() is None:
            self._writing.submit(self._withdraw, recommendation_id)

    def _withdraw(self, recommendation_id: str) -> None:
        """Take back what was written after the answer had left without it."""
        try:
            self._explorations.withdraw(recommendation_id)
        except ColdStartError as error:
            # It counts as shown without a reward.
            lines.error("an exploration that nobody saw stays in the log", **place_of(error))


def generator() -> np.random.Generator:
    """What a worker draws with; another one in each process."""
    return np.random.default_rng()
