"""docs/reference/settings.md: `enrichment.json`, the manifest of a bundle, environment variables."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from coldstart_udfs.settings import EVENT_WEIGHTS, Enrichment
from recommender.model.parameters import Parameters
from recommender.model.weights import Weights

from .markdown import attributes, fence, table

_MANIFEST = {
    "format": ("integer", "version of the bundle's layout; another one is refused"),
    "arrays": ("text", "name of the file with the arrays, in the same folder"),
    "id": ("text", "what the bundle is called; it stays when a user is erased from the arrays"),
    "sha256": ("text", "sha256 of that file, checked on loading"),
    "bytes": ("integer", "size of that file"),
    "embedding_fingerprint": ("text", "fingerprint of the encoder that made embeddings and profiles"),
    "users": ("integer", "number of users"),
    "items": ("integer", "number of items"),
    "warm_items": ("integer", "number of items with interactions that the model learned from"),
    "interactions": ("integer", "number of pairs of a user and an item that the model learned from"),
    "feature_space": ("object", "for `user` and `item`: numbers of `identities`, `words` and `attributes`"),
    "parameters": ("object", "the parameters below; `source` says for each chosen one how it was chosen"),
    "versions": ("object", "versions of the packages that the bundle was made with"),
    "trained_until": ("text", "time of the last profile snapshot that the model learned from (ISO 8601, UTC)"),
    "cutoff": ("text", "time before which parameters were fitted; interactions after it validated them. `null`: the "
               "interactions have no time, and those that validated were drawn by chance"),
    "held_out": ("integer", "interactions that validated the parameters"),
    "events": (
        "object", "`log` and `watermark`: the entries of an event log that the tables held; absent if they held none"
    ),
    "data_sha256": ("text", "sha256 of the tables that the model was trained on"),
    "metrics": ("object", "`validation`: `ndcg@20` and the number of held-out `rankings`"),
    "manifest_sha256": ("text", "sha256 of the rest of the manifest, checked on loading"),
}
_ENVIRONMENT = {
    "COLDSTART_CACHE_MB": ("2048", "size limit of the vector cache, in MiB; the oldest tenth is removed beyond it"),
    "XDG_CACHE_HOME": (
        "`~/.cache`", "on Linux: `coldstart/embeddings.sqlite` (vector cache) and `coldstart/models` (built variants "
        "of encoders) lie in this folder",
    ),
    "XDG_STATE_HOME": ("`~/.local/state`", "on Linux: `coldstart/sql_history` (history of `coldstart sql`) lies here"),
    "AWS_ACCESS_KEY_ID": ("", "key of Parquet sources on S3, unless the source or the store's settings name one"),
    "AWS_SECRET_ACCESS_KEY": ("", "the secret that belongs to the key"),
    "AWS_SESSION_TOKEN": ("", "session token of temporary credentials"),
    "AWS_DEFAULT_REGION": ("", "region of the bucket"),
    "RAY_ADDRESS": ("", "a running Ray cluster for `coldstart embed --engine ray`; without it Ray starts locally"),
    "WANDB_PROJECT": ("`coldstart`", "project of runs that `--track wandb:offline` writes"),
    "DISPLAY": ("", "with it, or with `WAYLAND_DISPLAY`, `coldstart demo --serve` opens a browser on Linux"),
    "WAYLAND_DISPLAY": ("", "as `DISPLAY`"),
    "TOKENIZERS_PARALLELISM": ("`false`", "threads of the tokenizer; set by this package unless it is set"),
}  # fmt: skip
_INTRODUCTION = """\
# Settings

## enrichment.json

The settings of a shop, in the folder of its Feast repository: how much descriptions and events weigh, and which
encoder is used. `coldstart init` writes the defaults, `coldstart weigh` the event weights and the half-life,
`coldstart profiles` the backend, `coldstart train` alpha. Edit the file for other values. `null` stands for infinity
in `evidence_scale` and `half_life_days`. An unknown key or a value out of range is rejected.
"""


def page() -> str:
    """The page."""
    parts = [
        _INTRODUCTION,
        table(("setting", "type", "default", "meaning"), _fields(Enrichment)),
        f"The defaults as a file:\n\n{fence('json', _example())}",
        "After a change of `alpha`, `beta` or `evidence_scale` run `feast apply`; of `event_weights` or "
        "`half_life_days`, `coldstart profiles`, `feast materialize` and `coldstart train`; of `model` or `backend`, "
        "`coldstart profiles`, `feast apply`, `feast materialize` and `coldstart train`.",
        "Event types that `event_weights` does not name weigh as here; any other type in the data is an error until it "
        "is named:",
        table(("event type", "weight"), [(f"`{name}`", f"{weight:g}") for name, weight in EVENT_WEIGHTS.items()]),
        "## Bundle manifest",
        "`manifest.json` in the folder of a bundle. `coldstart bundles inspect` shows it. A bundle is one file of "
        "arrays and this file; loading it runs no code from it.",
        table(("field", "type", "meaning"), [(f"`{name}`", *row) for name, row in _MANIFEST.items()]),
        "### Parameters",
        table(("parameter", "type", "default", "meaning"), _fields(Parameters)),
        "### Weights",
        "`weights` of the parameters; the parts are in [Scoring](../explanation/scoring.md#the-parts).",
        table(("field", "type", "default", "meaning"), _fields(Weights)),
        "## Environment variables",
        table(("variable", "default", "meaning"), [(f"`{name}`", *row) for name, row in _ENVIRONMENT.items()]),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _fields(settings: type) -> list[tuple[str, str, str, str]]:
    said = attributes(settings.__doc__)
    return [
        (f"`{one.name}`", _type(one.type), _json(_default(one)), said[one.name])
        for one in dataclasses.fields(settings)
    ]


def _type(annotation: Any) -> str:
    """A type of Python as the word for it in JSON."""
    words = {"float": "number", "int": "integer", "str": "text", "None": "null"}
    parts = str(annotation).split(" | ")
    return " or ".join(words.get(part, "object") for part in parts)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _json(value: Any) -> str:
    if isinstance(value, Weights):
        return "see below"
    return f"`{json.dumps(None if value == float('inf') else value)}`"


def _example() -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "enrichment.json"
        Enrichment.of_repo(Path(folder)).write(path)
        return path.read_text(encoding="utf-8").rstrip()
