"""The paths about experiments."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter

from coldstart_client.experiments import NAME, Experiment, ExperimentRequest, Experiments, Report
from recommender.serve.experiments.registry import ExperimentStateError, UnknownExperimentError
from recommender.serve.experiments.report import report_of
from recommender.serve.problems import ProblemError
from recommender.serve.routing import as_json, audit, possible_problems, router_of
from recommender.serve.service import Service

Name = Annotated[str, PathParameter(pattern=NAME)]
_CONFLICT = possible_problems(409)


def router(service: Service) -> APIRouter:
    """The router, for those whose key has the scope admin."""
    routes = router_of(service, "admin", "experiments")

    @routes.get("/experiments", response_model=Experiments)
    async def experiments() -> Response:
        """All experiments, the newest first."""
        return as_json(Experiments(experiments=await service.written(service.registry.all)))

    @routes.post("/experiments", response_model=Experiment, status_code=201, responses=_CONFLICT)
    async def create(request: Request, body: ExperimentRequest) -> Response:
        """Keep an experiment as a draft. The same request again changes nothing."""
        try:
            made = await service.written(service.registry.create, body)
        except ExperimentStateError as error:
            raise ProblemError(409, str(error)) from None
        audit(request, "create experiment")
        return as_json(made, 201)

    @routes.post("/experiments/{name}/start", response_model=Experiment, responses=_CONFLICT)
    async def start(request: Request, name: Name) -> Response:
        """Assign users from now on."""
        try:
            started = await service.written(service.registry.start, name)
        except UnknownExperimentError as error:
            raise ProblemError(404, str(error)) from None
        except ExperimentStateError as error:
            raise ProblemError(409, str(error)) from None
        audit(request, "start experiment")
        return as_json(started)

    @routes.post("/experiments/{name}/stop", response_model=Experiment)
    async def stop(request: Request, name: Name) -> Response:
        """Assign nobody any more; the report stays."""
        try:
            stopped = await service.written(service.registry.stop, name)
        except UnknownExperimentError as error:
            raise ProblemError(404, str(error)) from None
        audit(request, "stop experiment")
        return as_json(stopped)

    @routes.get("/experiments/{name}/report", response_model=Report)
    async def report(name: Name, fixed: Annotated[bool, Query(description="Add `fixed_horizon`.")] = False) -> Response:
        """What came of an experiment until now."""
        try:
            found = await service.written(service.registry.get, name)
        except UnknownExperimentError as error:
            raise ProblemError(404, str(error)) from None
        await service.written(service.experiments.flush)
        return as_json(await service.written(report_of, service.events, found, fixed))

    return routes
