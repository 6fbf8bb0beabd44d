"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from coldstart_client import models as schemas
from coldstart_udfs.errors import ColdStartError
from recommender.model.requests import UnknownIdError
from recommender.serve.events.log import EventLogError

CONTENT_TYPE = "application/problem+json"

# What the statuses that a client can meet say, beside the words of the error.
_DETAILS = {
    400: "the body is no JSON; /openapi.json describes the request",
    404: "there is no such path; /openapi.json lists those that exist",
    405: "this path does not know the method; /openapi.json lists those that it knows",
}


class ProblemError(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        detail: what was given, what is possible, what to do next.
        headers: additional ones.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def response(
    request_id: str, status: int, detail: str, headers: Mapping[str, str] | None = None,
    errors: list[dict[str, Any]] | None = None,
) -> Response:
    """A problem as a response."""
    problem = schemas.Problem(
        title=HTTPStatus(status).phrase, status=status, detail=detail, request_id=request_id, errors=errors
    )
    text = problem.model_dump_json(exclude_none=True)
    return Response(text, status, dict(headers or {}), media_type=CONTENT_TYPE)


def install(app: FastAPI) -> None:
    """Let every error of an application be answered as a problem."""

    @app.exception_handler(ProblemError)
    async def _(request: Request, error: ProblemError) -> Response:
        return response(_id(request), error.status, error.detail, error.headers)

    @app.exception_handler(EventLogError)
    async def _(request: Request, error: EventLogError) -> Response:
        again = "; send the request again, events with the same Idempotency-Key: they may have been stored"
        return response(_id(request), 503, f"{error}{again}", {"Retry-After": "5"})

    @app.exception_handler(ColdStartError)
    async def _(request: Request, error: ColdStartError) -> Response:
        return response(_id(request), 404 if isinstance(error, UnknownIdError) else 422, str(error))

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400 and (wrong := _other_body(request)):
            return response(_id(request), 415, wrong)
        detail = _DETAILS.get(error.status_code, str(error.detail))
        headers = {"Allow": _methods(request)} if error.status_code == 405 else error.headers
        return response(_id(request), error.status_code, detail, headers)

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Response:
        whole = [one for one in error.errors() if one["loc"] == ("body",) and one["type"] != "missing"]
        if whole and (wrong := _other_body(request)):
            return response(_id(request), 415, wrong)
        # Without the input, which may be private.
        errors = [
            {"at": ".".join(map(str, one["loc"])), "message": one["msg"].removeprefix("Value error, ")}
            for one in error.errors()
        ]
        first = f"{errors[0]['at']}: {errors[0]['message']}"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return response(_id(request), 422, f"{first}{more}; /openapi.json describes the request", errors=errors)


def _methods(request: Request) -> str:
    """The methods of a path. Starlette's own error names those of the first route that has the path."""
    return ", ".join(
        method for method in ("DELETE", "GET", "HEAD", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] == Match.FULL for route in request.app.routes)
    )  # fmt: skip


def _other_body(request: Request) -> str | None:
    """What a request says of its body, if that cannot be read."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        return "the body is compressed; send it as it is, without Content-Encoding"
    if "json" not in request.headers.get("content-type", "").lower():
        return "the body is not said to be JSON; send the header `Content-Type: application/json`"
    return None


def _id(request: Request) -> str:
    return str(request.scope.get("request_id", ""))
