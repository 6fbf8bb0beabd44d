"""Work of a worker beside the requests."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from coldstart_udfs.errors import ColdStartError
from recommender.serve.events.log import EventLog
from recommender.serve.live import Live
from recommender.serve.logs import log, place_of
from recommender.serve.metrics import Metrics
from recommender.serve.pushing import Pushing
from recommender.serve.scheduled import Schedule
from recommender.serve.settings import Settings

# Seconds between two steps. Other readers of the store see an event that much later.
_PUSH, _LEARN, _EXPLORE = 2.0, 5.0, 5.0


class Work(Protocol):
    """Something that is done bit by bit."""

    def step(self) -> Any:
        """Do what there is to do now."""

    def close(self) -> None:
        """Leave it to another worker."""


class Background:
    """Threads that learn from what was explored, push profiles and start learning, as the settings say, until `close`.

    Args:
        settings: of the service.
        live: what this worker knows.
        events: the event log.
        metrics: of this worker.
        learner: learns from what was explored.
    """

    def __init__(self, settings: Settings, live: Live, events: EventLog, metrics: Metrics, learner: Work) -> None:
        self._stopped = threading.Event()
        self._metrics = metrics
        self._threads: list[threading.Thread] = []
        self._begin("explore", _EXPLORE, learner)
        if settings.push_profiles:
            self._begin("push profiles", _PUSH, Pushing(live, events, settings.repo, metrics.pushed.inc))
        if settings.learn_every is not None:
            ended = Schedule.of(settings, events, lambda result: metrics.learned.labels(result).inc())
            self._begin("learn", _LEARN, ended)

    def close(self) -> None:
        """End the threads, after the step that each is in."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _begin(self, name: str, seconds: float, work: Work) -> None:
        thread = threading.Thread(target=self._run, args=(name, seconds, work), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, name: str, seconds: float, work: Work) -> None:
        failing: str | None = None
        while not self._stopped.wait(seconds):
            why = self._step(name, work)
            if why != failing:
                failing = why
                log.warning("work beside the requests", work=name, failing=why)
        try:
            work.close()
        except ColdStartError as error:  # the log is gone: the lease ends by itself
            log.warning("work beside the requests", work=name, failing=str(error))

    def _step(self, name: str, work: Work) -> str | None:
        try:
            work.step()
        except Exception as error:  # requests are answered whatever happens here
            self._metrics.background.labels(name).inc()
            # Other errors than ours may hold what users said.
            return str(error) if isinstance(error, ColdStartError) else " ".join(place_of(error).values())
        return None
