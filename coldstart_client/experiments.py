"""Requests and answers about experiments, which service, client and command line share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from coldstart_client.models import EventType, Tier

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

Name = Annotated[str, Field(pattern=NAME, description="Letters, digits, dots, hyphens and underscores.")]
State = Literal["draft", "running", "stopped"]
Factor = Annotated[float, Field(ge=0, le=100, strict=True)]
Share = Annotated[float, Field(ge=0, le=0.5, strict=True)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Arm(_Request):
    """One version of the recommender. An arm without parameters is the service as it is."""

    name: Name
    share: Annotated[float, Field(gt=0, le=1_000, strict=True)] = Field(
        default=1.0, description="Its share of the experiment's users, in proportion to those of the other arms."
    )
    bundle: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")] | None = Field(
        default=None, description="The id of a kept bundle, as `coldstart bundles list` shows it."
    )
    alpha: Factor = Field(default=1.0, description="What α, the weight of a user's description, is multiplied by.")
    gamma: Factor = Field(default=1.0, description="What γ, the weights of profile and text, is multiplied by.")
    text: StrictBool = Field(
        default=True, description="false: descriptions of users do not count, and the parts of a score that compare "
        "texts weigh nothing."
    )  # fmt: skip
    exploration: Share | None = Field(
        default=None, description="The share of a list's places for exploration; null is that of the service."
    )


class Metric(_Request):
    """A number of each user: what they did within the window after their first exposure."""

    event: EventType = "purchase"
    measure: Literal["users", "events", "weight"] = Field(
        default="users", description="users: 1 if the user has such an event, otherwise 0. events: how many they have. "
        "weight: the sum of the weights of their events, such as revenue if `weight` holds the amount."
    )  # fmt: skip
    per: EventType | None = Field(
        default=None, description="Divide by the number of such events: clicks per impression, for example. The two "
        "sums are taken over all users of an arm; the user stays the unit of the analysis."
    )  # fmt: skip

    @property
    def is_share(self) -> bool:
        """Whether the metric is a share of users."""
        return self.measure == "users" and self.per is None

    @property
    def title(self) -> str:
        """The metric in words."""
        kind = self.event.replace("_", " ")
        said = {"users": f"users with a {kind}", "events": f"{kind} events per user",
                "weight": f"weight of {kind} events per user"}[self.measure]  # fmt: skip
        return said if self.per is None else f"{said.removesuffix(' per user')} per {self.per.replace('_', ' ')}"


class Guard(Metric):
    """A metric that must not get worse."""

    harm: Literal["down", "up"] = Field(default="down", description="The direction that does harm.")


class ExperimentRequest(_Request):
    """An experiment. The first arm is what the others are compared with."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [
        {"name": "more-text", "arms": [{"name": "now"}, {"name": "more", "gamma": 1.5}]},
        {"name": "no-text", "share": 0.2, "arms": [{"name": "now"}, {"name": "none", "text": False}],
         "metric": {"event": "purchase", "measure": "weight"}, "guards": [{"event": "return", "harm": "up"}],
         "window_days": 14},
    ]})  # fmt: skip

    name: Name
    kind: Literal["ab", "interleaving"] = Field(
        default="ab", description="ab: a user sees the lists of one arm. interleaving: a user sees one list that two "
        "arms fill in turns (team draft); events that cite the list count for the arm whose item it was."
    )  # fmt: skip
    arms: Annotated[list[Arm], Field(min_length=2, max_length=10)]
    layer: Name = Field(default="default", description="Experiments of one layer never share a user.")
    share: Annotated[float, Field(ge=0.001, le=1, strict=True)] = Field(
        default=1.0, description="The share of the layer's users."
    )
    tier: Tier | None = Field(
        default=None, description="Only users of whom this is known when they ask; null is all users."
    )
    metric: Metric = Metric()
    guards: Annotated[list[Guard], Field(max_length=10)] = []
    window_days: Annotated[float, Field(gt=0, le=365, strict=True)] = Field(
        default=7.0, description="Days after a user's first exposure in which their events count."
    )
    planned_users: Annotated[int, Field(ge=100, le=10**9, strict=True)] = Field(
        default=10_000, description="About how many users will come. The interval is narrowest there, in proportion."
    )
    method: Literal["asymptotic", "betting"] = Field(
        default="asymptotic", description="How the intervals are computed. betting is exact for small counts, and "
        "takes the measure `users` alone."
    )  # fmt: skip
    error: Annotated[float, Field(ge=1e-9, le=0.2, strict=True)] = Field(
        default=0.05, description="The probability that the intervals of the metric are ever wrong."
    )
    seed: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")] | None = Field(
        default=None, description="Of the assignment; null is a random one."
    )

    @property
    def explores(self) -> bool:
        """Whether its users get explored places. A bundle is compared without them, so that no arm pays for them."""
        return self.kind == "ab" and all(arm.bundle is None for arm in self.arms)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"two arms have one name: {', '.join(names)}")
        if self.kind == "interleaving" and len(self.arms) > 2:
            raise ValueError("interleaving takes two arms")
        if self.kind == "interleaving" and (self.guards or self.metric.per):
            raise ValueError("interleaving takes neither guards nor per: users see both arms at once")
        if any(arm.exploration is not None for arm in self.arms) and not self.explores:
            raise ValueError("exploration fits neither interleaving nor arms with bundles: their lists explore nothing")
        if self.method == "betting" and any(one.measure != "users" or one.per for one in [self.metric, *self.guards]):
            raise ValueError("betting needs numbers between 0 and 1: give metric and guards the measure users")
        return self


class Experiment(BaseModel):
    """An experiment as it is kept."""

    name: str
    state: State
    spec: ExperimentRequest
    created: datetime
    started: datetime | None = None
    stopped: datetime | None = None


class Experiments(BaseModel):
    """All experiments, the newest first."""

    experiments: list[Experiment]


class ArmResult(BaseModel):
    """What was seen of an arm."""

    name: str
    users: int = Field(description="Users who were exposed.")
    exposures: int = Field(description="Rows of the exposure log: at most one per user and day.")
    complete: int = Field(description="Users whose window is over, who are analysed.")
    value: float | None = Field(description="The metric over these; null without users.")


class Point(BaseModel):
    """The difference after a number of users, and its interval."""

    users: int
    difference: float
    low: float
    high: float


class Comparison(BaseModel):
    """An arm less the first arm, in a metric."""

    arm: str
    metric: str
    share: bool = Field(description="Whether the numbers are shares of users, of 1.")
    difference: float | None = Field(description="null while there is no estimate.")
    low: float | None = Field(description="The interval holds at every look; null is without bound.")
    high: float | None
    relative: float | None = Field(description="The difference by the first arm's value.")
    verdict: Literal["better", "worse", "open"]
    sequence: list[Point] = Field(default=[], description="Over time, in the order in which users came.")


class RatioCheck(BaseModel):
    """Whether arms have as many users as planned (sample ratio mismatch)."""

    mismatch: bool
    p: float = Field(description="Valid at every look.")
    expected: dict[str, float]
    seen: dict[str, int]


class FixedHorizon(BaseModel):
    """A comparison that is valid at one look alone, which was planned before."""

    arm: str
    difference: float
    low: float
    high: float
    p: float
    variance_left: float = Field(description="The share of the variance that CUPED leaves.")


class Preferred(BaseModel):
    """Of interleaving: the users who preferred one arm's items."""

    users: dict[str, int] = Field(description="By arm. Users without a preference are in none.")
    share: float | None = Field(description="Of those who decided, the share that prefers the second arm.")
    low: float = Field(description="The interval holds at every look.")
    high: float
    verdict: Literal["better", "worse", "open"]


class Report(BaseModel):
    """What an experiment says at this moment."""

    experiment: Experiment
    at: datetime
    decision: str = Field(description="In words.")
    arms: list[ArmResult]
    metric: list[Comparison]
    guards: list[Comparison]
    sample_ratio: RatioCheck
    preference: Preferred | None = Field(default=None, description="Of interleaving; `metric` is empty then.")
    fixed_horizon: list[FixedHorizon] | None = Field(default=None, description="If it was asked for.")
