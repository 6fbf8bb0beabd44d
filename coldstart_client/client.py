"""`Client` and `AsyncClient`."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self, TypeVar

import httpx
from pydantic import BaseModel

from coldstart_client import core, experiments, interviews, models

T = TypeVar("T", bound=BaseModel)


class Client:
    """Calls the service. It keeps connections open, and threads may share it.

    A request that is refused with 429 or 503 is sent again when the service says so in `Retry-After`; events after 503
    only if they have an idempotency key, with which they are also sent again when the connection breaks.

    Args:
        url: where the service is, such as "https://recommender.example.com".
        key: an API key or an access token, or a function that gives one, which is called for each request.
        timeout: seconds to wait for a connection and for each piece of an answer.
        retries: how often a request is sent again at most.

    Every call raises `ProblemError` when the service answers that something is wrong, and `httpx.TransportError` when
    it does not answer.
    """

    def __init__(self, url: str, key: core.Key = None, *, timeout: float = 10.0, retries: int = 2) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout)
        self._key, self._retries = key, retries

    def recommend(self, request: models.RecommendRequest) -> models.Recommendations:
        """The best items for a user: known, described, known by this session's events, or unknown."""
        return self._send(core.recommend(request))

    def interview(self, request: interviews.InterviewRequest) -> interviews.Interview:
        """The next question to a user, and their list after the answers so far.

        Args:
            request: all answers so far; the service keeps none.
        """
        return self._send(core.interview(request))

    def audience(self, request: models.AudienceRequest) -> models.Audience:
        """The users to whom an item matters most."""
        return self._send(core.audience(request))

    def enrich(self, request: models.EnrichRequest) -> models.Enriched:
        """The profile of a text, or of a user and what they do, and the items nearest to it."""
        return self._send(core.enrich(request))

    def explain(self, request: models.ExplainRequest) -> models.Explanation:
        """The terms of one score."""
        return self._send(core.explain(request))

    def known_users(self, k: int = 10) -> models.KnownUsers:
        """Some users with history, to try the service with."""
        return self._send(core.known_users(k))

    def send_events(self, request: models.EventsRequest, idempotency_key: str | None = None) -> models.Accepted:
        """Store what users did: on disk when this returns.

        Args:
            request: a batch, which is stored as a whole or not at all.
            idempotency_key: the same key with the same events again stores nothing. Every event then needs its
                `event_timestamp`.
        """
        return self._send(core.send_events(request, idempotency_key))

    def put_user(self, user_id: str, request: models.EntityRequest) -> models.Stored:
        """Add a user, or change what they say of themselves."""
        return self._send(core.put("user", user_id, request))

    def put_item(self, item_id: str, request: models.EntityRequest) -> models.Stored:
        """Add an item, or change its words."""
        return self._send(core.put("item", item_id, request))

    def delete_user(self, user_id: str) -> models.Erased:
        """Erase a user; the receipt counts what was removed and says what remains."""
        return self._send(core.delete_user(user_id))

    def create_experiment(self, request: experiments.ExperimentRequest) -> experiments.Experiment:
        """Keep an experiment as a draft; the same request again changes nothing."""
        return self._send(core.create_experiment(request))

    def list_experiments(self) -> experiments.Experiments:
        """All experiments, the newest first."""
        return self._send(core.list_experiments())

    def start_experiment(self, name: str) -> experiments.Experiment:
        """Assign users from now on."""
        return self._send(core.start_experiment(name))

    def stop_experiment(self, name: str) -> experiments.Experiment:
        """Assign nobody any more; the report stays."""
        return self._send(core.stop_experiment(name))

    def experiment_report(self, name: str, fixed: bool = False) -> experiments.Report:
        """What came of an experiment until now; `fixed` adds the comparison with one look."""
        return self._send(core.experiment_report(name, fixed))

    def ready(self) -> models.Health:
        """Whether the service answers, from which bundle, and whether answers are degraded."""
        return self._send(core.ready())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, call: core.Call[T]) -> T:
        attempts = core.Attempts(call, self._retries)
        while True:
            try:
                response = self._http.request(**call.arguments(self._key))
            except httpx.TransportError as error:
                pause = attempts.pause_after(error)
                if pause is None:
                    raise
            else:
                pause = attempts.pause_after(response)
                if pause is None:
                    return call.read(response)
            time.sleep(pause)


class AsyncClient:
    """As `Client`, for asyncio.

    Args:
        url: see `Client`.
        key: see `Client`.
        timeout: see `Client`.
        retries: see `Client`.
    """

    def __init__(self, url: str, key: core.Key = None, *, timeout: float = 10.0, retries: int = 2) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout)
        self._key, self._retries = key, retries

    async def recommend(self, request: models.RecommendRequest) -> models.Recommendations:
        """As `Client.recommend`."""
        return await self._send(core.recommend(request))

    async def interview(self, request: interviews.InterviewRequest) -> interviews.Interview:
        """As `Client.interview`."""
        return await self._send(core.interview(request))

    async def audience(self, request: models.AudienceRequest) -> models.Audience:
        """As `Client.audience`."""
        return await self._send(core.audience(request))

    async def enrich(self, request: models.EnrichRequest) -> models.Enriched:
        """As `Client.enrich`."""
        return await self._send(core.enrich(request))

    async def explain(self, request: models.ExplainRequest) -> models.Explanation:
        """As `Client.explain`."""
        return await self._send(core.explain(request))

    async def known_users(self, k: int = 10) -> models.KnownUsers:
        """As `Client.known_users`."""
        return await self._send(core.known_users(k))

    async def send_events(self, request: models.EventsRequest, idempotency_key: str | None = None) -> models.Accepted:
        """As `Client.send_events`."""
        return await self._send(core.send_events(request, idempotency_key))

    async def put_user(self, user_id: str, request: models.EntityRequest) -> models.Stored:
        """As `Client.put_user`."""
        return await self._send(core.put("user", user_id, request))

    async def put_item(self, item_id: str, request: models.EntityRequest) -> models.Stored:
        """As `Client.put_item`."""
        return await self._send(core.put("item", item_id, request))

    async def delete_user(self, user_id: str) -> models.Erased:
        """As `Client.delete_user`."""
        return await self._send(core.delete_user(user_id))

    async def create_experiment(self, request: experiments.ExperimentRequest) -> experiments.Experiment:
        """As `Client.create_experiment`."""
        return await self._send(core.create_experiment(request))

    async def list_experiments(self) -> experiments.Experiments:
        """As `Client.list_experiments`."""
        return await self._send(core.list_experiments())

    async def start_experiment(self, name: str) -> experiments.Experiment:
        """As `Client.start_experiment`."""
        return await self._send(core.start_experiment(name))

    async def stop_experiment(self, name: str) -> experiments.Experiment:
        """As `Client.stop_experiment`."""
        return await self._send(core.stop_experiment(name))

    async def experiment_report(self, name: str, fixed: bool = False) -> experiments.Report:
        """As `Client.experiment_report`."""
        return await self._send(core.experiment_report(name, fixed))

    async def ready(self) -> models.Health:
        """As `Client.ready`."""
        return await self._send(core.ready())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, call: core.Call[T]) -> T:
        attempts = core.Attempts(call, self._retries)
        while True:
            try:
                response = await self._http.request(**call.arguments(self._key))
            except httpx.TransportError as error:
                pause = attempts.pause_after(error)
                if pause is None:
                    raise
            else:
                pause = attempts.pause_after(response)
                if pause is None:
                    return call.read(response)
            await asyncio.sleep(pause)
