"""What a registry tells of `feast materialize`: views that are being written, or were when it was killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from coldstart_udfs.errors import ColdStartError

_PAUSE = 0.2


def materializing(store: Any) -> list[str]:
    """The feature views that a `feast materialize` writes now, or wrote when it was killed, as the registry says.

    The first materialisation of a view leaves no trace in the registry before it ends: see `never_materialized`.
    """
    views = _views(store)
    return sorted(view.name for view in views if getattr(getattr(view, "state", None), "name", "") == "MATERIALIZING")


def never_materialized(store: Any) -> list[str]:
    """The feature views of which the registry knows no materialisation; a first one may be running."""
    return sorted(view.name for view in _views(store) if view.online and not view.materialization_intervals)


def _views(store: Any) -> list[Any]:
    store.refresh_registry()
    return [*store.list_feature_views(), *store.list_stream_feature_views()]


def wait_for_materialize(store: Any, seconds: float) -> None:
    """Wait until no feature view is being materialised, at most for some seconds."""
    until = time.monotonic() + seconds
    while materializing(store) and time.monotonic() < until:
        time.sleep(_PAUSE)


def told(store: Any) -> str | None:
    """What to tell of views that are being materialised, or were when that was killed; None if there are none."""
    views = materializing(store)
    if not views:
        return None
    return (
        f"{', '.join(views)}: a `feast materialize` is running, or was killed; if none is running, run "
        f"`feast -c {store.repo_path} materialize` again"
    )


@contextmanager
def serving(store: Any) -> Iterator[None]:
    """Read the online store; where Feast refuses because views are being materialised, say what to do.

    Raises:
        ColdStartError: feature views are being materialised, and the repository does not serve meanwhile.
    """
    try:
        yield
    except ValueError as error:
        if "and cannot serve features" not in str(error) or not (reason := told(store)):
            raise
        raise ColdStartError(
            f"{reason}. Until then Feast serves none of their features, unless feature_store.yaml has "
            "`serve_features_while_materializing: true` below `registry:`"
        ) from None
