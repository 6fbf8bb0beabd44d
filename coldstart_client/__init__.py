"""A client of the service that `coldstart serve` starts. It needs httpx and pydantic, and nothing else of this project.

>>> from coldstart_client import Client, RecommendRequest
>>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     answer = client.recommend(RecommendRequest(description="I run a small garden cafe", k=3))
...     print(answer.tier, [item.description for item in answer.items])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coldstart_client.experiments import Arm, ExperimentRequest, Guard, Metric
from coldstart_client.interviews import InterviewAnswer, InterviewRequest
from coldstart_client.models import (
    AudienceRequest,
    EnrichRequest,
    EntityRequest,
    EventsRequest,
    ExplainRequest,
    FeedbackEvent,
    RecommendRequest,
    SessionEvent,
)

if TYPE_CHECKING:
    from coldstart_client.client import AsyncClient, Client
    from coldstart_client.core import ProblemError

__all__ = [
    "Arm",
    "AsyncClient",
    "AudienceRequest",
    "Client",
    "EnrichRequest",
    "EntityRequest",
    "EventsRequest",
    "ExperimentRequest",
    "ExplainRequest",
    "FeedbackEvent",
    "Guard",
    "InterviewAnswer",
    "InterviewRequest",
    "Metric",
    "ProblemError",
    "RecommendRequest",
    "SessionEvent",
]

_HOMES = {"AsyncClient": "client", "Client": "client", "ProblemError": "core"}


def __getattr__(name: str) -> Any:
    # The service shares the models, and does without httpx.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
