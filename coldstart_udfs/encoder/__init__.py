"""The sentence encoder, its backends and its vector cache.

`from coldstart_udfs.encoder import Encoder, shared_encoder` works and loads them when they are asked for: repositories
made by `coldstart init` import them from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coldstart_udfs.encoder.encoder import Encoder, shared_encoder

__all__ = ["Encoder", "shared_encoder"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    from importlib import import_module

    return getattr(import_module("coldstart_udfs.encoder.encoder"), name)
