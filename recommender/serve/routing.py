"""What the routes of the service share: who may ask, how a problem is described, how an answer is written."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from coldstart_client import models as schemas
from recommender.serve import problems
from recommender.serve.authorisation import guarded
from recommender.serve.logs import log
from recommender.serve.service import Service

# What OpenAPI says; `guarded` reads the header.
BEARER = Depends(HTTPBearer(auto_error=False, description="An API key, or an access token of the issuer."))
# What who may not ask is answered; 421 without keys.
REFUSALS = (401, 403, 421, 429)


def possible_problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Answers that are errors, for the description of the service."""
    content = {problems.CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {code: {"model": schemas.Problem, "description": "A problem (RFC 9457).", "content": content}
            for code in codes}  # fmt: skip


def router_of(service: Service, scope: str, tag: str) -> APIRouter:
    """A router under /v1 for those whose key has the scope."""
    return APIRouter(
        prefix="/v1", tags=[tag], dependencies=[BEARER], route_class=guarded(service, scope),
        responses=possible_problems(400, 404, 408, 413, 415, 422, *REFUSALS),
    )  # fmt: skip


def audit(request: Request, action: str) -> None:
    """Log what an admin did."""
    # Without the id: a log line would outlive the user.
    log.info("audit", action=action, key=request.scope.get("key_id"), request_id=request.scope["request_id"])


def told(request: Request, service: Service, answer: schemas.Answer) -> Response:
    """An answer as JSON, counted and noted for the log line of its request."""
    service.metrics.tiers.labels(answer.tier).inc()
    request.scope["told"] = {"recommendation_id": answer.recommendation_id, "tier": answer.tier}
    if answer.degraded:
        service.metrics.degraded.labels(answer.degraded).inc()
        request.scope["told"]["degraded"] = answer.degraded
    return as_json(answer)


def as_json(answer: BaseModel, status: int = 200) -> Response:
    """An answer as JSON."""
    # Not through FastAPI's response_model, which would validate again what a model has validated.
    return Response(answer.model_dump_json(), status, media_type="application/json")
