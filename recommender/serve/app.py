"""The FastAPI application."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, FastAPI, Header, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import PlainTextResponse

from coldstart_client import models as schemas
from coldstart_udfs.text.redaction import redact
from recommender.serve import logs, metrics, page, problems
from recommender.serve.authorisation import guarded
from recommender.serve.door import Door
from recommender.serve.events.event import Event
from recommender.serve.events.log import IdempotencyError
from recommender.serve.experiments import routes as experiments
from recommender.serve.interview import routes as interview
from recommender.serve.problems import ProblemError
from recommender.serve.routing import BEARER, REFUSALS, as_json, audit, possible_problems, router_of, told
from recommender.serve.service import Service
from recommender.serve.settings import Settings

DESCRIPTION = """\
Recommendations in real time for users and items with history, with a few words, or with neither; and feedback that
counts in the next answer. Errors are problem details (RFC 9457).
"""

EntityId = Annotated[schemas.Id, PathParameter()]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=128, description="The same key with the same events again stores nothing."),
]


def create_app(settings: Settings) -> FastAPI:
    """The application of one worker; what it needs is loaded when it starts."""
    service = Service(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.started():
            yield

    app = FastAPI(
        title="feast-coldstart", description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None,
        redirect_slashes=False,  # a slash at the end is part of an id
        responses=possible_problems(503),
    )  # fmt: skip
    app.add_middleware(Door, metrics=service.metrics)
    problems.install(app)
    app.include_router(page.router())
    app.include_router(_watching(service))
    app.include_router(_numbers(service))
    app.include_router(_reading(service))
    app.include_router(interview.router(service))
    app.include_router(_feedback(service))
    app.include_router(_admin(service))
    app.include_router(experiments.router(service))
    return app


def of_environment() -> FastAPI:
    """The application of a worker that `coldstart serve` has started."""
    logs.configure()
    atexit.register(metrics.leave)
    return create_app(Settings.of_environment())


def _watching(service: Service) -> APIRouter:
    router = APIRouter(tags=["state"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @router.get("/readyz", response_model=schemas.Health)
    async def readyz() -> Response:
        """Whether the service answers, from which bundle, and whether answers are degraded."""
        return as_json(schemas.Health(
            status="ok", bundle=service.live.bundle_id, degraded=service.degraded, pending_events=service.live.pending,
            set_aside=service.live.set_aside,
        ))  # fmt: skip

    return router


def _numbers(service: Service) -> APIRouter:
    router = APIRouter(
        tags=["state"], dependencies=[BEARER], route_class=guarded(service, "read"),
        responses=possible_problems(*REFUSALS),
    )  # fmt: skip

    @router.get("/metrics", response_class=PlainTextResponse)
    async def numbers() -> Response:
        """Numbers for Prometheus, of all workers."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _reading(service: Service) -> APIRouter:
    router = router_of(service, "read", "recommendations")

    @router.post("/recommend", response_model=schemas.Recommendations)
    async def recommend(request: Request, body: schemas.RecommendRequest) -> Response:
        """The best items for a user: known, described, known by this session's events, or unknown."""
        said = await service.said(body.description)
        return told(request, service, await service.recommended(body, said))

    @router.post("/audience", response_model=schemas.Audience)
    async def audience(request: Request, body: schemas.AudienceRequest) -> Response:
        """The users to whom an item matters most."""
        said = await service.said(body.description, private=False)
        answer = await service.scored_for_all(service.answers.audience, service.now(), body, said)
        return told(request, service, answer)

    @router.post("/explain", response_model=schemas.Explanation)
    async def explain(request: Request, body: schemas.ExplainRequest) -> Response:
        """The terms of one score."""
        said = await service.said(body.description)
        shown = service.experiments.explain
        return told(request, service, await service.scored(shown, service.answers, service.now(), body, said))

    @router.post("/enrich", response_model=schemas.Enriched)
    async def enrich(request: Request, body: schemas.EnrichRequest) -> Response:
        """The profile of a text, or of a user and what they do, and the items nearest to it."""
        said = await service.said(body.description)
        return told(request, service, await service.scored(service.answers.enrich, service.now(), body, said))

    @router.get("/users", response_model=schemas.KnownUsers)
    async def users(k: Annotated[int, Query(ge=1, le=schemas.MOST_ROWS)] = 10) -> Response:
        """Some users with history, to try the service with; spread evenly over those that it knows."""
        return as_json(await service.scored(service.answers.users, service.now(), k))

    return router


def _feedback(service: Service) -> APIRouter:
    router = router_of(service, "feedback", "feedback")

    @router.post("/events", status_code=202, response_model=schemas.Accepted, responses=possible_problems(409))
    async def events(
        request: Request, body: schemas.EventsRequest, idempotency_key: IdempotencyKey = None
    ) -> Response:
        """Store what users did: on disk when this answers, and in the next recommendation of these users."""
        if idempotency_key and any(one.event_timestamp is None for one in body.events):
            raise ProblemError(
                422, "with an Idempotency-Key every event needs its event_timestamp: a retry names the same events"
            )
        arrived = datetime.now(UTC)
        events = [
            Event(**one.model_dump(exclude={"event_timestamp"}), event_timestamp=one.event_timestamp or arrived)
            for one in body.events
        ]
        # Each API key has idempotency keys of its own.
        key = idempotency_key and f"{request.scope.get('key_id', '')}:{idempotency_key}"
        try:
            with service.metrics.taken_in.time():
                done = await service.written(service.live.accept, events, key)
        except IdempotencyError as error:
            raise ProblemError(409, str(error)) from None
        for event in () if done.replayed else events:
            service.metrics.events.labels(event.event_type).inc()
        return as_json(schemas.Accepted(accepted=len(done.ids), ids=list(done.ids), replayed=done.replayed), 202)

    return router


def _admin(service: Service) -> APIRouter:
    router = router_of(service, "admin", "users and items")

    def put(
        write: Callable[..., None], action: str, stored_as: Callable[[str], str] = str
    ) -> Callable[..., Awaitable[Response]]:
        async def stored(request: Request, name: str, body: schemas.EntityRequest) -> Response:
            await service.written(write, name, body.description, body.attributes)
            audit(request, action)
            return as_json(schemas.Stored(id=name, description=stored_as(body.description)))

        return stored

    @router.put("/items/{item_id:path}", response_model=schemas.Stored)
    async def put_item(request: Request, item_id: EntityId, body: schemas.EntityRequest) -> Response:
        """Add an item, or change its words: it can be recommended in the next request."""
        return await put(service.live.put_item, "put item")(request, item_id, body)

    @router.put("/users/{user_id:path}", response_model=schemas.Stored)
    async def put_user(request: Request, user_id: EntityId, body: schemas.EntityRequest) -> Response:
        """Add a user, or change what they say of themselves; private data in it are replaced."""
        return await put(service.live.put_user, "put user", redact)(request, user_id, body)

    @router.delete("/users/{user_id:path}", response_model=schemas.Erased)
    async def delete_user(request: Request, user_id: EntityId) -> Response:
        """Erase a user; the receipt counts what was removed and says what remains."""
        receipt = await service.written(service.erase, user_id)
        audit(request, "delete user")
        return as_json(schemas.Erased(removed=dict(receipt.removed), remains=list(receipt.remains)))

    return router
