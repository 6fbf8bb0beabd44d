"""`Live`: what a worker of the service knows now, from a bundle and the event log."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError, FingerprintError
from recommender.data.contract import TAKE_BACK
from recommender.data.events import EventWeights
from recommender.model.bundle import bundle_id, read_bundle, read_manifest
from recommender.model.fitted import Fitted
from recommender.model.freshness import utc
from recommender.model.recommender import HybridRecommender
from recommender.pipeline.bundles import all_folders
from recommender.pipeline.forget import erase_from_bundle
from recommender.serve.events.changes import Appended, Side
from recommender.serve.events.event import Event
from recommender.serve.events.following import Following, following
from recommender.serve.events.log import EventLog, EventLogError
from recommender.serve.events.opening import check_log
from recommender.serve.logs import log as lines

if TYPE_CHECKING:
    from coldstart_udfs.encoder.encoder import Encoder

# Seconds after which a worker sees what another one has accepted.
POLL_SECONDS = 1.0
_Files = tuple[tuple[str, int, int, int], ...]
_REMAINS = (
    "what was learned from all users together stays until the next `coldstart train` without the user: LightFM's "
    "numbers of words, attributes and items, item–item weights, popularity, trends, and the profiles of items"
)


@dataclass(frozen=True)
class Receipt:
    """What `Live.forget_user` removed.

    Attributes:
        removed: the numbers of events, descriptions, exposures, explored places and bundles that held the user.
        remains: sentences on what remains, and until when.
    """

    removed: Mapping[str, int]
    remains: Sequence[str]


@dataclass(frozen=True)
class Profiles:
    """Profiles of users as of one moment.

    Attributes:
        user_ids: n ids.
        profiles: (n, d) float32, as of the moment after the last event.
        evidence: (n,) float64, the number of interactions behind each.
        watermark: of the last entry of the log in them.
        fingerprint: of the encoder.
    """

    user_ids: Sequence[str]
    profiles: NDArray[np.float32]
    evidence: NDArray[np.float64]
    watermark: int
    fingerprint: str


@dataclass(frozen=True)
class _Now:
    """A state, replaced as a whole."""

    model: HybridRecommender
    base: Fitted
    bundle_id: str
    watermark: int
    pending: int
    set_aside: int
    held: int
    ageing: float


class Live:
    """The recommender of one worker. It follows the event log, and the bundle on disk if another is promoted.

    What a worker accepts, it knows when `accept` returns. Other workers know it after `poll` seconds at most, beside
    the time that the update takes.

    Args:
        bundle: the folder of the bundle.
        log: the event log, which all workers share.
        weights: by event type, and the half-life: those of the repository's settings.
        encoder: encodes descriptions and searches; None leaves out their vectors.
        poll: seconds between two looks at log and bundle; None: only `refresh` looks.

    Raises:
        BundleError: there is no usable bundle.
        FingerprintError: the encoder is not that of the bundle.
        EventLogError: the log cannot be read.
        ColdStartError: the bundle was trained from another log.

    Attributes:
        followed: seconds since 1970 until which the model holds everything that was in the log.
    """

    def __init__(
        self, bundle: Path, log: EventLog, *, weights: EventWeights | None = None, encoder: Encoder | None = None,
        poll: float | None = POLL_SECONDS,
    ) -> None:  # fmt: skip
        self._bundle, self._log, self._encoder = bundle, log, encoder
        self._weights = weights or EventWeights()
        self._updating = threading.Lock()
        self._loaded = _identity(bundle)
        self._refused: _Files | None = None
        self._refused_because: str | None = None
        self._told: set[int] = set()
        self._following, self._bundle_id = self._load()
        self._now, self.followed = self._published(), time.time()
        self._aged = self._now.model, self._now.model
        self.problem: str | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._poll, args=(poll,), daemon=True) if poll is not None else None
        if self._thread:
            self._thread.start()

    @property
    def model(self) -> HybridRecommender:
        """What is known now, with the ages of items as of this second. It does not change; a request reads it once."""
        now, second = self._now, utc(datetime.now(UTC).replace(microsecond=0))
        if not now.model.parameters.freshness:
            return now.model
        state, model = self._aged
        if state is not now.model or model.fitted.births.now != second:
            model = HybridRecommender.of(now.model.fitted.as_of(second))
            self._aged = now.model, model
        return model

    @property
    def base(self) -> Fitted:
        """The state in the bundle, without the users who were erased since."""
        return self._now.base

    @property
    def bundle_id(self) -> str:
        """The bundle that the model comes from."""
        return self._now.bundle_id

    @property
    def watermark(self) -> int:
        """The id of the last entry of the log that the model holds."""
        return self._now.watermark

    @property
    def held(self) -> int:
        """The id of the last entry of the log that the bundle holds."""
        return self._now.held

    @property
    def pending(self) -> int:
        """The number of events that the model holds and the bundle does not."""
        return self._now.pending

    @property
    def pending_between(self) -> tuple[datetime, datetime] | None:
        """The times of the oldest and the newest of these events; None if there are none."""
        return self._following.pending_between if self._now.pending else None

    @property
    def set_aside(self) -> int:
        """The number of entries of the log that cannot be taken in; the rest is followed."""
        return self._now.set_aside

    def accept(self, events: Sequence[Event], key: str | None = None) -> Appended:
        """Write events to the log, and take them in.

        Args:
            events: in the order in which they count.
            key: see `EventLog.append`.

        Returns:
            The ids. The events are durable, and `model` holds them.

        Raises:
            ColdStartError: a type has no weight in the settings, or an event cannot be written; nothing was written.
        """
        for kind in {kind for event in events for kind, _ in event.rows} - {*TAKE_BACK}:
            self._weights.of(kind)
        appended = self._log.append(events, key)
        if appended.ids:
            self._follow(appended.ids[-1])
        return appended

    def changed_after(self, watermark: int) -> list[tuple[str, int]]:
        """The users whose profiles changed after an entry of the log, and the id of the last entry that changed each.

        The earliest change comes first. What the bundle held is no change.
        """
        with self._updating:
            return self._following.changed_after(watermark)

    def profiles_of(self, user_ids: Sequence[str]) -> Profiles:
        """The profiles that `coldstart profiles` would compute now; without ids that are not known."""
        now = self._now
        users = now.model.fitted.users
        found = users.take(np.array([row for row in users.rows(user_ids).tolist() if row >= 0], np.int64))
        profiles = found.profiles * np.float32(now.ageing)
        return Profiles(found.ids, profiles, found.evidence, now.watermark, found.fingerprint)

    def put_user(self, user_id: str, description: str, attributes: Sequence[str] | None = None) -> None:
        """Store what a user says of themselves; it is redacted first, and counts in the next request.

        Args:
            user_id: known or new.
            description: "" for none.
            attributes: "column=value"; None keeps those that are known.
        """
        self._put("user", user_id, description, attributes)

    def put_item(self, item_id: str, description: str, attributes: Sequence[str] | None = None) -> None:
        """Store the description of an item, as `put_user`; it can be recommended in the next request."""
        self._put("item", item_id, description, attributes)

    def forget_user(self, user_id: str) -> Receipt:
        """Erase a user from the log, from the bundle on disk, and from what this worker knows.

        Other workers forget the user when they next look at the log. `recommender.serve.erasure.erase_user`
        erases the user from the feature store and the tables too.

        Raises:
            EventLogError: the log cannot be written; nothing was erased.
        """
        erased = self._log.erase_user(user_id)
        self._follow()
        removed = {**erased.removed, "bundles": 0}
        remains = [*erased.remains]
        for folder in all_folders(self._bundle):
            try:
                removed["bundles"] += len(erase_from_bundle(folder, [user_id]))
            except ColdStartError as error:
                remains.append(f"{error}; the user is erased from that bundle when a worker has loaded it")
        if removed["bundles"]:
            remains.append(_REMAINS)
        return Receipt(removed, remains)

    def refresh(self) -> None:
        """Take in what is new in the log, and the bundle if it is another one.

        Raises:
            EventLogError: the log cannot be read.
            BundleError: another bundle is there, and it cannot be read. The one before stays.
        """
        found = _identity(self._bundle)
        if found not in (self._loaded, self._refused):
            try:
                self._reload()
            except Exception as error:
                self._refused, self._refused_because = found, str(error)
                raise
            self._loaded = found
        if found == self._loaded:
            self._refused = self._refused_because = None
        began = time.time()
        self._follow()
        self.followed = began

    def close(self) -> None:
        """Stop following. The log stays open."""
        self._stopped.set()
        if self._thread:
            self._thread.join()

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _put(self, side: Side, entity_id: str, description: str, attributes: Sequence[str] | None) -> None:
        self._follow(self._log.put(side, entity_id, description, attributes))

    def _follow(self, until: int | None = None) -> None:
        """Take in the log, unless another thread has taken in the entry `until` meanwhile."""
        with self._updating:
            if until is not None and self._following.watermark >= until:
                return
            try:
                changed = self._following.follow(self._log)
            except EventLogError:
                raise  # nothing of what was read before is lost
            except Exception:
                # Part of it may have been taken in: begin again from the bundle.
                self._following, self._bundle_id = self._load()
                changed = True
            if changed:
                self._now = self._published()

    def _published(self) -> _Now:
        state = self._following
        state.fitted.prepare()
        new = {number: why for number, why in state.set_aside.items() if number not in self._told}
        for why in dict.fromkeys(new.values()):
            numbers = [number for number, one in new.items() if one == why]
            lines.warning("entries of the event log set aside", why=why, entries=len(numbers), first=numbers[0])
        self._told |= new.keys()
        return _Now(
            HybridRecommender.of(state.fitted), state.bundle, self._bundle_id, state.watermark, state.pending,
            len(state.set_aside), state.held, state.ageing,
        )  # fmt: skip

    def _load(self) -> tuple[Following, str]:
        """The bundle, and all that the log has beyond it."""
        fitted, manifest = _read(self._bundle)
        check_log(self._log, manifest, self._bundle)
        if self._encoder is not None and self._encoder.fingerprint != fitted.items.fingerprint:
            raise FingerprintError(
                found=fitted.items.fingerprint, found_in=str(self._bundle), expected=self._encoder.fingerprint,
                expected_by="the service", remedy="Serve with the encoder of the repository that trained the bundle.",
            )  # fmt: skip
        state = following(fitted, manifest, self._log, self._weights, self._encoder)
        state.follow(self._log)
        if state.erased:
            # It was trained from data that still had them.
            with contextlib.suppress(ColdStartError):
                erase_from_bundle(self._bundle, state.erased)
        return state, bundle_id(manifest)

    def _reload(self) -> None:
        if bundle_id(read_manifest(self._bundle)) == self._bundle_id:
            return  # users were erased from it, whom the state has forgotten
        state, name = self._load()
        state.fitted.prepare()  # seconds, in which nobody who sends events shall wait
        with self._updating:
            state.follow(self._log)
            self._following, self._bundle_id = state, name
            self._now = self._published()

    def _poll(self, seconds: float) -> None:
        while not self._stopped.wait(seconds):
            try:
                self.refresh()
                self.problem = self._refused_because
            except Exception as error:  # the state before stays, whatever is wrong with log or bundle
                self.problem = str(error)


def _identity(bundle: Path) -> _Files:
    """What is another one when a file of a bundle was written again."""
    found = []
    for path in sorted([bundle / "manifest.json", *bundle.glob("arrays-*.npz")]):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((path.name, status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _read(bundle: Path) -> tuple[Fitted, dict[str, Any]]:
    """A bundle and its manifest, of one moment."""
    while True:
        before, fitted = read_manifest(bundle), read_bundle(bundle)
        if read_manifest(bundle) == before:
            return fitted, before
