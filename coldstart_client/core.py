"""What both clients share: the calls of the service, when they are repeated, and what becomes of answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from coldstart_client import experiments, interviews, models

T = TypeVar("T", bound=BaseModel)
Key = str | Callable[[], str] | None

# A longer Retry-After is an error: the caller decides whether to wait so long.
LONGEST_PAUSE = 30.0
# Seconds before a request is sent again whose connection broke.
_AFTER_A_BREAK = 0.5
_SHOWN = 200


class ProblemError(Exception):
    """The service answers that something is wrong.

    Attributes:
        problem: what is wrong and what to do, as the service says it (RFC 9457).
        retry_after: seconds to wait before the request is sent again; None if the service does not say.
    """

    def __init__(self, problem: models.Problem, retry_after: float | None = None) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem, self.retry_after = problem, retry_after


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, as data.

    Attributes:
        method: of HTTP.
        path: with ids percent-encoded.
        answer: what the service answers.
        body: what is sent.
        headers: additional ones.
        repeatable: whether it does no harm to do it twice: a second time changes nothing.
        resent: whether it is sent again when the connection breaks, after which it may have been done.
    """

    method: str
    path: str
    answer: type[T]
    body: BaseModel | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    resent: bool = False

    def arguments(self, key: Key) -> dict[str, Any]:
        """Of `httpx.Client.request`."""
        headers = dict(self.headers)
        if key is not None:
            headers["Authorization"] = f"Bearer {key() if callable(key) else key}"
        content = None
        if self.body is not None:
            headers["Content-Type"] = "application/json"
            content = self.body.model_dump_json(exclude_unset=True)
        return {"method": self.method, "url": self.path, "headers": headers, "content": content}

    def read(self, response: httpx.Response) -> T:
        """The answer.

        Raises:
            ProblemError: the service, or what stands before it, answers otherwise.
        """
        if response.is_success:
            try:
                return self.answer.model_validate_json(response.content)
            except ValidationError as error:
                raise ProblemError(_foreign(response, f"{error.error_count()} fields differ")) from None
        try:
            problem = models.Problem.model_validate_json(response.content)
        except ValidationError:
            problem = _foreign(response, response.text[:_SHOWN])
        raise ProblemError(problem, _retry_after(response))


class Attempts:
    """How often a call is sent.

    Args:
        call: the call.
        retries: how often it is sent again at most.
    """

    def __init__(self, call: Call[Any], retries: int) -> None:
        self._call, self._left = call, retries

    def pause_after(self, outcome: httpx.Response | httpx.TransportError) -> float | None:
        """Seconds to wait before the call is sent again; None if it is not."""
        if self._left == 0:
            return None
        self._left -= 1
        if isinstance(outcome, httpx.TransportError):
            return _AFTER_A_BREAK if self._call.resent else None
        pause = _retry_after(outcome)
        refused = outcome.status_code == HTTPStatus.TOO_MANY_REQUESTS
        failed = outcome.status_code == HTTPStatus.SERVICE_UNAVAILABLE and self._call.repeatable
        return pause if (refused or failed) and pause is not None and pause <= LONGEST_PAUSE else None


def recommend(request: models.RecommendRequest) -> Call[models.Recommendations]:
    """`POST /v1/recommend`."""
    return Call("POST", "/v1/recommend", models.Recommendations, request)


def interview(request: interviews.InterviewRequest) -> Call[interviews.Interview]:
    """`POST /v1/interview`."""
    return Call("POST", "/v1/interview", interviews.Interview, request)


def audience(request: models.AudienceRequest) -> Call[models.Audience]:
    """`POST /v1/audience`."""
    return Call("POST", "/v1/audience", models.Audience, request)


def enrich(request: models.EnrichRequest) -> Call[models.Enriched]:
    """`POST /v1/enrich`."""
    return Call("POST", "/v1/enrich", models.Enriched, request)


def explain(request: models.ExplainRequest) -> Call[models.Explanation]:
    """`POST /v1/explain`."""
    return Call("POST", "/v1/explain", models.Explanation, request)


def known_users(k: int) -> Call[models.KnownUsers]:
    """`GET /v1/users`."""
    return Call("GET", f"/v1/users?k={k}", models.KnownUsers)


def send_events(request: models.EventsRequest, idempotency_key: str | None) -> Call[models.Accepted]:
    """`POST /v1/events`: with a key it can be sent again, whatever became of it."""
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    once = idempotency_key is not None
    return Call("POST", "/v1/events", models.Accepted, request, headers, repeatable=once, resent=once)


def put(side: str, entity_id: str, request: models.EntityRequest) -> Call[models.Stored]:
    """`PUT /v1/users/{id}` and `PUT /v1/items/{id}`."""
    return Call("PUT", f"/v1/{side}s/{_quoted(entity_id)}", models.Stored, request)


def delete_user(user_id: str) -> Call[models.Erased]:
    """`DELETE /v1/users/{id}`."""
    return Call("DELETE", f"/v1/users/{_quoted(user_id)}", models.Erased)


def create_experiment(request: experiments.ExperimentRequest) -> Call[experiments.Experiment]:
    """`POST /v1/experiments`."""
    return Call("POST", "/v1/experiments", experiments.Experiment, request)


def list_experiments() -> Call[experiments.Experiments]:
    """`GET /v1/experiments`."""
    return Call("GET", "/v1/experiments", experiments.Experiments)


def start_experiment(name: str) -> Call[experiments.Experiment]:
    """`POST /v1/experiments/{name}/start`."""
    return Call("POST", f"/v1/experiments/{_quoted(name)}/start", experiments.Experiment)


def stop_experiment(name: str) -> Call[experiments.Experiment]:
    """`POST /v1/experiments/{name}/stop`."""
    return Call("POST", f"/v1/experiments/{_quoted(name)}/stop", experiments.Experiment)


def experiment_report(name: str, fixed: bool) -> Call[experiments.Report]:
    """`GET /v1/experiments/{name}/report`."""
    asked = "?fixed=true" if fixed else ""
    return Call("GET", f"/v1/experiments/{_quoted(name)}/report{asked}", experiments.Report)


def ready() -> Call[models.Health]:
    """`GET /readyz`."""
    return Call("GET", "/readyz", models.Health)


def _quoted(entity_id: str) -> str:
    if entity_id in (".", ".."):  # clients and proxies take them out of paths
        raise ValueError(f"the id {entity_id!r} cannot be in a path; choose another")
    return quote(entity_id, safe="")


def _retry_after(response: httpx.Response) -> float | None:
    given = response.headers.get("Retry-After", "")
    return float(given) if given.isascii() and given.isdigit() else None


def _foreign(response: httpx.Response, found: str) -> models.Problem:
    """A problem for an answer that is none of the service's."""
    return models.Problem(
        title=response.reason_phrase or "Unknown", status=response.status_code,
        detail=f"{response.url} does not answer as the service does; is it its address? It says: {found}",
        request_id=response.headers.get("X-Request-ID", ""),
    )  # fmt: skip
