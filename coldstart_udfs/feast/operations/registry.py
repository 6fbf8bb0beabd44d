"""What a registry tells of `feast materialize`: views that are being written, or were when it was killed."""

from __future__ import annotations

import time
from typing import Any

_PAUSE = 0.2


def materializing(store: Any) -> list[str]:
    """The feature views that a `feast materialize` writes now, or wrote when it was killed, by the registry's file.

    The first materialisation of a view leaves no trace in the registry before it ends.
    """
    store.refresh_registry()
    views = [*store.list_feature_views(), *store.list_stream_feature_views()]
    return sorted(view.name for view in views if getattr(getattr(view, "state", None), "name", "") == "MATERIALIZING")


def wait_for_materialize(store: Any, seconds: float) -> None:
    """Wait until no feature view is being materialised, at most for some seconds."""
    until = time.monotonic() + seconds
    while materializing(store) and time.monotonic() < until:
        time.sleep(_PAUSE)
