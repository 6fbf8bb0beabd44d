"""Write the profiles that events changed to Feast's online store, where other readers of the store see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.operations.stores import StoreFile, join_key, online_rows, open_store
from recommender.serve.events.leases import Lease
from recommender.serve.events.log import EventLog
from recommender.serve.live import Live, Profiles

VIEW = "user_profiles"
_FEATURES = {"user_profile", "user_evidence", "user_profile_fingerprint"}
# Users that are written at once, so that readers of SQLite wait for a short commit only, and requests for little work.
BATCH = 200


class Pushing:
    """Pushes profiles: of all workers, the one that holds the lease.

    A row has the profile of the bundle and of all events after it, as `coldstart profiles` would compute it, and the
    time of writing. When `feast materialize` has ended or another bundle serves, all profiles that events changed are
    written again, because the rows of `coldstart profiles` are older than these events.

    Args:
        live: what this worker knows.
        log: the event log, which all workers share.
        repo: the Feast repository.
        pushed: called with the number of profiles that were written.
    """

    def __init__(self, live: Live, log: EventLog, repo: Path, pushed: Callable[[int], None] = lambda _: None) -> None:
        self._live, self._log, self._repo, self._pushed = live, log, repo, pushed
        self._lease = Lease(log, "profiles")
        self._store: Any = None
        self._file: StoreFile | None = None

    def step(self) -> int:
        """Write the next profiles; how many there were.

        Raises:
            ColdStartError: the store cannot be opened, its view of profiles has other features, or the log failed.
            Exception: whatever the online store raises. The same profiles are written in the next step.
        """
        if not self._lease.held():
            return 0
        store, live = self._opened(), self._live
        view = store.get_feature_view(VIEW)
        about = {"bundle": live.bundle_id, "written": _written(view)}
        before = self._lease.state()
        same = about.items() <= before.items() and before["pushed"] >= live.held
        watermark = before["pushed"] if same else live.held
        names, watermark = _next(live.changed_after(watermark), watermark)
        if names:
            self._write(store, view, live.profiles_of(names))
        if names or not same:
            self._lease.keep({**about, "pushed": watermark})
        return len(names)

    def close(self) -> None:
        """Let another worker push at once."""
        self._lease.release()

    def _opened(self) -> Any:
        if self._store is not None and self._file is not None and self._file.replaced():
            self._store = None
        if self._store is None:
            store = open_store(self._repo)
            self._file = StoreFile(store)
            if self._file.missing():
                raise ColdStartError(f"the online store of {self._repo} has no file; run `feast apply`")
            self._store = store
        self._store.refresh_registry()
        return self._store

    def _write(self, store: Any, view: Any, found: Profiles) -> None:
        import pandas as pd

        features = {field.name for field in view.features}
        if features != _FEATURES:
            raise ColdStartError(
                f"the view {VIEW} has the features {sorted(features)}; a push fills {sorted(_FEATURES)}. Serve without "
                "--push-profiles, or make the view like that of `coldstart init`"
            )
        if not found.user_ids:
            return
        key = join_key(store, "user")
        frame = pd.DataFrame({
            key: list(found.user_ids), "user_profile": list(found.profiles),
            "user_evidence": found.evidence.round().astype("int64"), "user_profile_fingerprint": found.fingerprint,
            view.batch_source.timestamp_field: pd.Series([datetime.now(UTC)] * len(found.user_ids)).dt.as_unit("us"),
        })  # fmt: skip
        store.write_to_online_store(VIEW, frame)
        # Whoever erases a user writes it to the log, then removes the rows. If the log did not say it before the rows
        # were written, the rows may have come after the removal; if it does not say it now, they have come before.
        gone = self._log.erased(found.user_ids, after=found.watermark)
        rows = online_rows(store) if gone else None
        if rows is not None:
            for name in gone:
                rows.erase(rows.find(key, name))
        self._pushed(len(found.user_ids))



def _next(changed: Sequence[tuple[str, int]], watermark: int) -> tuple[list[str], int]:
    """The users of the next batch, and the id up to which that is everybody.

    >>> _next([("a", 7), ("b", 9)], 5)
    (['a', 'b'], 9)
    """
    names: list[str] = []
    for number, users in groupby(changed, key=itemgetter(1)):
        names += [user for user, _ in users]
        watermark = number
        if len(names) >= BATCH:
            break
    return names, watermark


def _written(view: Any) -> str:
    """What changes when somebody else has written the rows of a view, or the view itself."""
    return f"{view.last_updated_timestamp} {list(islice(reversed(view.materialization_intervals), 1))}"
