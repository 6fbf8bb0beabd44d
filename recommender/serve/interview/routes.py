"""The route of interviews."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from coldstart_client import interviews as schemas
from recommender.model.fitted import Fitted, ItemSide
from recommender.model.posterior import ProfilePrior
from recommender.serve.answers import Moment
from recommender.serve.interview.asking import Topics
from recommender.serve.interview.interviewing import interviewed
from recommender.serve.routing import router_of, told
from recommender.serve.service import Service


class TopicsOfNow:
    """The topics of the state that serves, made when they are first needed.

    The prior is learned again when another bundle serves, which takes seconds; the topics when items have come.
    """

    def __init__(self) -> None:
        self._making = asyncio.Lock()
        self._prior: tuple[str, ProfilePrior] | None = None
        self._topics: tuple[str, ItemSide, Topics] | None = None

    async def of(self, service: Service, now: Moment) -> Topics:
        """Those of one moment. Requests that come while they are made wait beside the event loop."""
        async with self._making:
            if self._prior is None or self._prior[0] != now.bundle:
                self._prior = now.bundle, await service.written(ProfilePrior.of, now.base)
            items = now.fitted.all_items
            made = self._topics
            if made is None or made[0] != now.bundle or made[1] is not items:
                made = now.bundle, items, await service.scored(_topics, self._prior[1], now.fitted)
                self._topics = made
            return made[2]


def _topics(prior: ProfilePrior, fitted: Fitted) -> Topics:
    topics = Topics.of(prior, fitted)
    _ = topics.gram  # before several threads need it
    return topics


def router(service: Service) -> APIRouter:
    """`POST /v1/interview`."""
    found = router_of(service, "read", "recommendations")
    topics = TopicsOfNow()

    @found.post("/interview", response_model=schemas.Interview)
    async def interview(request: Request, body: schemas.InterviewRequest) -> Response:
        """What to ask a user next, and their list after the answers so far."""
        said = await service.said(body.description)
        now = service.now()
        asked = await topics.of(service, now)
        return told(request, service, await service.scored(interviewed, asked, service.answers, now, body, said))

    return found
