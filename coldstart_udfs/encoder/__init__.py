"""The sentence encoder: weights, backends, bulk jobs, and the vector cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coldstart_udfs.encoder.encoder import Encoder, shared_encoder

__all__ = ["Encoder", "shared_encoder"]  # static_artifacts.py of users' Feast repositories imports them from here


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    from coldstart_udfs.encoder import encoder

    return getattr(encoder, name)
