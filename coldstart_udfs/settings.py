"""The settings of a Feast repository, `enrichment.json`: weights of descriptions and events, and the encoder."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text

ENRICHMENT_FILE = "enrichment.json"
# The weight of an event by type, in purchases: common defaults, not measured. `coldstart weigh` fits them to data. A
# type that is not listed needs a weight in the settings. The weight of a return is the share of an event that a return
# or a removal takes back.
EVENT_WEIGHTS = {"impression": 0.0, "view": 0.1, "search": 0.2, "wishlist": 0.3, "cart": 0.5, "checkout": 0.5,
                 "interaction": 1.0, "purchase": 1.0, "return": 1.0}  # fmt: skip

_FITTED = ("alpha", "beta", "evidence_scale", "event_weights", "half_life_days")
_MAY_BE_INFINITE = ("evidence_scale", "half_life_days")


@dataclass(frozen=True)
class Enrichment:
    """How much descriptions and events weigh: the contents of `enrichment.json`.

    Attributes:
        alpha: α, the weight of a user's description, in interactions: a description counts as much as α interactions.
        beta: β, the same for an item's description.
        evidence_scale: a in α(n) = α·a/(a+n), in interactions; `inf` keeps α constant. A user's profile P is a sum
            over interactions, so the share of the description falls with n even then.
        event_weights: weight of an event in P by type, in purchases. A type that is not named here has its weight in
            `EVENT_WEIGHTS`; one that is named in neither is an error. 0 leaves a type out.
        half_life_days: age in days at which an event counts half; `inf` for events that do not age.
        model: the encoder: "multilingual", a folder or a sentence-transformers name; None is the embedded default.
        backend: the encoder's backend, recorded when the repository's first vectors are written; None before that.
        source: for each setting, where its value comes from ("default", "fitted …").
    """

    alpha: float = 1.0
    beta: float = 1.0
    evidence_scale: float = math.inf
    event_weights: dict[str, float] = field(default_factory=EVENT_WEIGHTS.copy)
    half_life_days: float = math.inf
    model: str | None = None
    backend: str | None = None
    source: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "evidence_scale", "half_life_days"):
            _check_number(name, getattr(self, name))
        if math.isinf(self.alpha) or math.isinf(self.beta):
            raise ColdStartError("alpha and beta must be finite; only evidence_scale may be infinite (null)")
        if self.evidence_scale == 0:
            raise ColdStartError("evidence_scale is 0; it must be positive, or null for a constant weight")
        if self.half_life_days == 0:
            raise ColdStartError("half_life_days is 0; it must be positive, or null for events that do not age")
        if not isinstance(self.event_weights, dict):
            raise ColdStartError(f"event_weights is {self.event_weights!r}; it must be like {EVENT_WEIGHTS}")
        for name, weight in self.event_weights.items():
            if not isinstance(name, str) or name != name.strip().lower():
                raise ColdStartError(f"event_weights names {name!r}; types of events are lower case, without spaces")
            _check_number(f"the event weight of {name!r}", weight)
            if math.isinf(weight) or (name == "return" and weight > 1):
                raise ColdStartError(f"the event weight of {name!r} is {weight!r}; it must be finite, of 'return' ≤ 1")

    @classmethod
    def read(cls, path: str | Path) -> Enrichment:
        """Read `enrichment.json`; null as `evidence_scale` or `half_life_days` means infinity.

        Raises:
            ColdStartError: the file does not exist, is not JSON, has an unknown key, or a value is out of range.
        """
        try:
            given = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ColdStartError(f"{path} does not exist; `coldstart train` writes one") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ColdStartError(f"{path} is not JSON: {error}") from None
        known = set(cls.__dataclass_fields__)
        if not isinstance(given, dict) or not set(given) <= known:
            unknown = sorted(set(given) - known) if isinstance(given, dict) else type(given).__name__
            raise ColdStartError(f"{path} holds {unknown}; possible keys are {sorted(known)}")
        given |= {name: math.inf for name in _MAY_BE_INFINITE if given.get(name, 0) is None}
        try:
            return cls(**given)
        except ColdStartError as error:
            raise ColdStartError(f"{path}: {error}") from None

    @classmethod
    def of_repo(cls, repo: Path) -> Enrichment:
        """The settings of a Feast repository: its `enrichment.json`, or the defaults if it has none."""
        path = repo / ENRICHMENT_FILE
        return cls.read(path) if path.exists() else cls(source=dict.fromkeys(_FITTED, "default"))

    def write(self, path: str | Path) -> None:
        """Write `enrichment.json` as a whole, or leave it as it was."""
        values: dict[str, Any] = asdict(self)
        values |= {name: None for name in _MAY_BE_INFINITE if math.isinf(values[name])}
        write_text(Path(path), json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or math.isnan(value) or value < 0:
        raise ColdStartError(f"{name} is {value!r}; it must be a number of at least 0")
