"""What a process of the service is started with."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

# The settings travel to worker processes as JSON in this environment variable.
VARIABLE = "COLDSTART_SERVE"


@dataclass(frozen=True)
class Settings:
    """What a process of the service is started with.

    Attributes:
        repo: the Feast repository.
        bundle: the trained recommender.
        data: the folder of the tables, from which users are erased; None if they are not on this machine.
        events: the URL of the event log.
        keys: the file of API keys.
        issuer: whose access tokens are taken in place of API keys (OpenID Connect). Without either, everybody is
            answered.
        audience: of the access tokens.
        rate: requests that one key may make, such as "600/minute".
        rates: where requests are counted: "memory://" counts in each worker, "redis://…" over all of them.
        push_profiles: whether profiles that events changed are written to the online store.
        learn_every: seconds between two runs of what `coldstart learn` does; None: it does not run by itself.
        raw: the raw files that it reads.
        explore: the share of the places of lists that new items get, from 0 to 0.5.
        explore_window: seconds after an answer in which an event counts as the reward of what was explored.
    """

    repo: Path
    bundle: Path
    data: Path | None
    events: str
    keys: Path | None = None
    rate: str = "6000/minute"
    rates: str = "memory://"
    issuer: str | None = None
    audience: str | None = None
    push_profiles: bool = False
    learn_every: float | None = None
    raw: Path | None = None
    explore: float = 0.0
    explore_window: float = 86_400.0

    def to_environment(self) -> None:
        """Hand the settings to the processes that this one starts."""
        os.environ[VARIABLE] = json.dumps(asdict(self), default=str)

    @classmethod
    def of_environment(cls) -> Settings:
        """The settings of the process that started this one."""
        given = json.loads(os.environ[VARIABLE])
        places = ("repo", "bundle", "data", "keys", "raw")
        given |= {name: Path(given[name]) for name in places if given[name] is not None}
        return cls(**given)
