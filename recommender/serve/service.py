"""One worker of the service: what it loads once, what it looks after, and where work runs beside the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from coldstart_client import models as schemas
from coldstart_udfs.encoder.encoder import shared_encoder
from coldstart_udfs.profile import has_text
from coldstart_udfs.settings import Enrichment
from recommender.data.events import EventWeights
from recommender.pipeline.bundles import held, release
from recommender.serve.answers import Answers, Encoded, Moment
from recommender.serve.background import Background
from recommender.serve.erasure import erase_user
from recommender.serve.events.log import EventLog
from recommender.serve.events.opening import open_log
from recommender.serve.experiments.exposures import ExposureLog
from recommender.serve.experiments.registry import Registry
from recommender.serve.experiments.serving import NOBODY, Experiments
from recommender.serve.keys import KeyFile
from recommender.serve.live import Live, Receipt
from recommender.serve.logs import log, place_of
from recommender.serve.metrics import Metrics
from recommender.serve.policy.exploring import Exploring
from recommender.serve.problems import ProblemError
from recommender.serve.rates import Rates
from recommender.serve.reading import Reading
from recommender.serve.settings import Settings
from recommender.serve.store import OnlineStore
from recommender.serve.texts import Texts

if TYPE_CHECKING:
    from recommender.serve.oidc import Tokens

T = TypeVar("T")

# Arithmetic holds the interpreter's lock for most of its time: more threads would only wait for each other.
_SCORING = 2
# An audience scores all users: seconds. It has a thread of its own, and so many may wait.
_MOST_AUDIENCES = 4
# Those who wait for the disk share a commit.
_WRITING = 16
_NOT_FOLLOWING = "event log or bundle cannot be read: what is new is not taken in"
# Seconds between two looks at the state of the store.
_LOOK = 10.0


class Service:
    """What a worker holds between start and stop; made by `started`.

    Attributes:
        settings: what the process was started with.
        metrics: the numbers of this worker.
        callers: finds who sends a request, by API keys or access tokens; None answers everybody.
        rates: how many requests a key may make.
        live: the recommender as it is known now.
        texts: of requests.
        answers: from requests to answers.
        events: the event log.
        registry: the experiments of the shop.
        experiments: those that this worker shows.
        exploring: answers with new items in reserved places.
    """

    live: Live
    texts: Texts
    answers: Answers
    events: EventLog
    registry: Registry
    experiments: Experiments
    exploring: Exploring
    rates: Rates

    def __init__(self, settings: Settings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.callers: KeyFile | Tokens | None = KeyFile(settings.keys) if settings.keys else None
        if settings.issuer and settings.audience:
            from recommender.serve.oidc import Tokens

            self.callers = Tokens(settings.issuer, settings.audience)
        self._store = OnlineStore(settings.repo)
        self._scoring = ThreadPoolExecutor(_SCORING, "scoring")
        self._heavy, self._audiences = ThreadPoolExecutor(1, "audience"), 0
        self._writing = ThreadPoolExecutor(_WRITING, "writing")

    @contextlib.asynccontextmanager
    async def started(self) -> Any:
        """Load everything, then look after it until the block ends."""
        from threadpoolctl import threadpool_limits

        # Products of one user are too small to divide; threads of BLAS would wait for each other and spin.
        threadpool_limits(1, user_api="blas")
        self.rates = Rates(self.settings.rate, self.settings.rates, self.metrics)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writing, self._load)
        looking = asyncio.create_task(self._look_after())
        log.info("ready", bundle=self.live.bundle_id, degraded=self.degraded, pending=self.live.pending)
        try:
            yield
        finally:
            looking.cancel()
            await self.rates.close()
            await loop.run_in_executor(self._writing, self._close)

    @property
    def degraded(self) -> str | None:
        """Why answers are not made as they should be; None if they are."""
        return self._store.reason or (_NOT_FOLLOWING if self.live.problem else None)

    def now(self) -> Moment:
        """What an answer is made from."""
        return Moment(self.live.model.fitted, self.live.base, self.live.bundle_id)

    async def recommended(self, request: schemas.RecommendRequest, said: Encoded | None) -> schemas.Recommendations:
        """The best items for a user, as their arms of experiments have them, and new items in reserved places.

        Nothing is explored while the service is degraded, in interleaved lists, and where bundles are compared.
        """
        served, experiments = self.now(), self.experiments
        assigned, now = NOBODY, served
        if experiments.running and request.user_id is not None:
            assigned, now = await self.scored(experiments.assign, self.answers, served, request, said)
        if (both := assigned.interleaved) is not None:
            answer = await self.scored(experiments.interleaved, self.answers, served, request, said, assigned, both)
        else:
            share = 0.0 if self.degraded else assigned.exploration
            answer = await self.exploring.recommend(self.scored, now, request, said, share)
        return experiments.shown(answer, request.user_id, assigned)

    async def scored(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run arithmetic beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._scoring, work, *arguments)

    async def scored_for_all(self, work: Callable[..., T], *arguments: Any) -> T:
        """As `scored`, for arithmetic over all users.

        Raises:
            ProblemError: 429, too many such requests wait.
        """
        if self._audiences >= _MOST_AUDIENCES:
            self.metrics.refused.labels("audiences").inc()
            raise ProblemError(429, f"{_MOST_AUDIENCES} audiences wait; ask again in 5 s", {"Retry-After": "5"})
        self._audiences += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._heavy, work, *arguments)
        finally:
            self._audiences -= 1

    async def written(self, work: Callable[..., T], *arguments: Any) -> T:
        """Wait for the disk beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._writing, work, *arguments)

    def erase(self, user_id: str) -> Receipt:
        """Erase a user from everything that the service reads and writes."""
        receipt = erase_user(self.live, self.settings.repo, user_id, data=self.settings.data)
        self.texts.forget()
        return receipt

    async def said(self, text: str | None, *, private: bool = True) -> Encoded | None:
        """A text of a request, encoded; None if there is none."""
        return await self.texts.encode(text, private=private) if text is not None and has_text(text) else None

    def _load(self) -> None:
        settings = self.settings
        log.info("loading", what="bundle and event log", bundle=str(settings.bundle))
        enrichment = Enrichment.of_repo(settings.repo)
        # No vector of a user's text is kept on disk.
        encoder = shared_encoder(enrichment.model, cache=False, backend=enrichment.backend)
        self.events = open_log(settings.events, settings.bundle)
        weights = EventWeights.of_settings(enrichment)
        self.live = Live(settings.bundle, self.events, weights=weights, encoder=encoder)
        self._warm_up()
        log.info("loading", what="encoder", fingerprint=encoder.fingerprint)
        self.texts = Texts(encoder, self.metrics)
        self.texts.warm_up()
        log.info("loading", what="online store", repo=str(settings.repo))
        _import_feast()
        self._store.check(self.live.model)
        self.answers = Answers(self._store, weights, Reading(encoder))
        self.exploring = Exploring(
            self.answers, self.live, self.events, settings.explore, settings.explore_window, weights, self.metrics,
            self._writing,
        )  # fmt: skip
        self.registry = Registry(self.events, settings.bundle)
        self.experiments = Experiments(
            self.registry, ExposureLog(self.events, self.metrics.exposed), self.live,
            lambda name: Live(held(settings.bundle, name), self.events, weights=weights, encoder=encoder),
            lambda names: release(settings.bundle, names),
        )  # fmt: skip
        self._background = Background(settings, self.live, self.events, self.metrics, self.exploring.learner)
        self._measure()

    def _warm_up(self) -> None:
        """Compute what is derived from the state when it is first needed, so that no request waits for it."""
        model = self.live.model
        model.recommend(model.users.ids[0], 1)

    async def _look_after(self) -> None:
        loop = asyncio.get_running_loop()
        before = self.degraded
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await loop.run_in_executor(self._writing, self._store.check, self.live.model)
                await loop.run_in_executor(self._writing, self._measure)
            except Exception as error:
                log.error("state unknown", **place_of(error))
            if self.degraded != before:
                before = self.degraded
                log.warning("state changed", degraded=before)

    def _measure(self) -> None:
        self.metrics.measure(self.live, self.degraded, self.settings.bundle)
        self.exploring.measure()

    def _close(self) -> None:
        self._background.close()
        self.experiments.close()
        self.live.close()
        self.events.close()
        self._scoring.shutdown()
        self._heavy.shutdown()
        self._writing.shutdown(wait=False)


def _import_feast() -> None:
    """Import Feast without torch, which it takes if it is there and which costs 180 MB: nobody calls what needs it."""
    if "feast" in sys.modules or "torch" in sys.modules:
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import feast  # noqa: F401
    finally:
        del sys.modules["torch"]
