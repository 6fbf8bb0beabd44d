"""What a registry tells of `feast materialize`: views that are being written, or were when it was killed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from coldstart_udfs.errors import ColdStartError

_PAUSE = 0.1
_ATTEMPTS = 20


def materializing(store: Any) -> list[str]:
    """The feature views that a `feast materialize` writes now, or wrote when it was killed, as the registry says.

    The first materialisation of a view leaves no trace in the registry before it ends: see `never_materialized`.
    """
    views = stored_views(store)
    return sorted(view.name for view in views if getattr(getattr(view, "state", None), "name", "") == "MATERIALIZING")


def never_materialized(store: Any, key: str) -> list[str]:
    """The feature views with a join key of which the registry knows no materialisation; a first one may be running."""
    views = [view for view in stored_views(store) if view.online and key in view.join_keys]
    return sorted(view.name for view in views if not view.materialization_intervals)


def stored_views(store: Any) -> list[Any]:
    """The views in the registry as it is now; read again if a `feast` command is just writing it."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    for _ in range(_ATTEMPTS):
        with contextlib.suppress(DecodeError):
            store.refresh_registry()
            if views := [*store.list_feature_views(), *store.list_stream_feature_views()]:
                return views
        time.sleep(_PAUSE)
    return []


def wait_for_materialize(store: Any, seconds: float) -> list[str]:
    """Wait, at most for some seconds, for the views that are being materialised now; return those that still are."""
    until = time.monotonic() + seconds
    waited_for = set(materializing(store))
    while waited_for and time.monotonic() < until:
        time.sleep(_PAUSE)
        waited_for &= set(materializing(store))
    return sorted(waited_for)


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
