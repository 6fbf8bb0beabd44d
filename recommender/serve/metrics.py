"""What Prometheus reads of a service, over all of its workers."""

from __future__ import annotations

import glob
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.values import MutexValue, ValueClass

from recommender.serve.drift import Drift

if TYPE_CHECKING:
    from recommender.serve.live import Live

# Where the workers of one service share their numbers; prometheus_client reads it when it is imported.
SHARED = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """The numbers of one worker.

    Attributes:
        drift: compares users' texts with those of training.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.drift = Drift()
        self._bundle = ""
        r = self.registry
        self.seconds = Histogram(
            "coldstart_request_seconds", "Time until the answer.", ["route"], buckets=_SECONDS, registry=r
        )
        self.requests = Counter("coldstart_requests", "Requests.", ["route", "status"], registry=r)
        self.refused = Counter("coldstart_refused", "Requests that got 429, by what was full.", ["full"], registry=r)
        self.tiers = Counter("coldstart_answers", "Answers by what is known of who asked.", ["tier"], registry=r)
        self.degraded = Counter("coldstart_degraded_answers", "Degraded answers.", ["reason"], registry=r)
        self.texts = Counter("coldstart_texts", "Texts, encoded or remembered.", ["source"], registry=r)
        self.events = Counter("coldstart_events", "Events accepted.", ["event_type"], registry=r)
        self.taken_in = Histogram(
            "coldstart_feedback_seconds", "Time until accepted events are on disk and count in this worker.",
            buckets=_SECONDS, registry=r,
        )  # fmt: skip
        self.user_texts = Counter(
            "coldstart_user_texts", "Encoded texts of users, by how close the nearest item is.", ["nearest"],
            registry=r,
        )  # fmt: skip
        self.text_drift = Gauge(
            "coldstart_text_drift", "How far users' texts are from those of training; 0: not at all.", registry=r,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self.counted_alone = Counter(
            "coldstart_rates_alone", "Requests counted in one process, because Redis did not answer.", registry=r
        )
        self.waiting = Gauge(
            "coldstart_encoder_waiting", "Texts that wait for the encoder.", registry=r, multiprocess_mode="livesum"
        )
        self.pending = Gauge(
            "coldstart_pending_events", "Events that are not in the bundle.", registry=r, multiprocess_mode="livemax"
        )
        self.pending_age = Gauge(
            "coldstart_pending_age_seconds", "Age of the oldest and newest event that is not in the bundle.", ["event"],
            registry=r, multiprocess_mode="livemax",
        )  # fmt: skip
        self.followed = Gauge(
            "coldstart_followed_timestamp_seconds", "When all that the event log had was taken in.", registry=r,
            multiprocess_mode="livemin",
        )  # fmt: skip
        self.set_aside = Gauge(
            "coldstart_set_aside_entries", "Entries of the event log that cannot be taken in.", registry=r,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self.pushed = Counter("coldstart_pushed_profiles", "Profiles written to the online store.", registry=r)
        self.learned = Counter("coldstart_learning_runs", "Runs of what learns by itself.", ["result"], registry=r)
        self.places = Counter("coldstart_places", "Places of lists of recommended items.", registry=r)
        self.explored = Counter("coldstart_explored_places", "Places that were explored.", registry=r)
        self.unexplored = Counter(
            "coldstart_unlogged_explorations", "Answers without exploration, because it could not be logged in time.",
            registry=r,
        )  # fmt: skip
        self.learned_places = Gauge(
            "coldstart_learned_places", "Explored places whose reward a worker draws by.", registry=r,
            multiprocess_mode="livemin",
        )  # fmt: skip
        self.explored_items = Gauge(
            "coldstart_explored_items", "Items that were explored, by what is decided of them.", ["verdict"],
            registry=r, multiprocess_mode="livemax",
        )  # fmt: skip
        self.background = Counter(
            "coldstart_background_failures", "Failures of work beside the requests.", ["work"], registry=r
        )  # fmt: skip
        self.exposures = Counter(
            "coldstart_exposures", "Exposures of users to arms of experiments.", ["result"], registry=r
        )  # fmt: skip
        for result in ("written", "lost"):
            self.exposures.labels(result)
        self.trained = Gauge(
            "coldstart_bundle_timestamp_seconds", "When the bundle was written.", registry=r,
            multiprocess_mode="livemin",
        )  # fmt: skip
        self.out_of_step = Gauge(
            "coldstart_degraded", "1 while answers are not made as they should be.", registry=r,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self.workers = Gauge("coldstart_workers", "Processes that answer.", registry=r, multiprocess_mode="livesum")
        self._begin()

    def exposed(self, result: str, count: int) -> None:
        """Count exposures that were written, or lost."""
        self.exposures.labels(result).inc(count)

    def measure(self, live: Live, degraded: str | None, bundle: Path) -> None:
        """Look at the state of the worker; to be called every few seconds.

        Args:
            live: what the worker knows.
            degraded: why answers are not made as they should be.
            bundle: the folder of the bundle.
        """
        self.workers.set(1)
        self.out_of_step.set(int(degraded is not None))
        self.followed.set(live.followed)
        self.pending.set(live.pending)
        self.set_aside.set(live.set_aside)
        now = datetime.now(UTC)
        oldest, newest = live.pending_between or (now, now)
        self.pending_age.labels("oldest").set(max(0.0, (now - oldest).total_seconds()))
        self.pending_age.labels("newest").set(max(0.0, (now - newest).total_seconds()))
        near, far, drift = self.drift.measure(live.base)
        self.user_texts.labels("near").inc(near)
        self.user_texts.labels("far").inc(far)
        self.text_drift.set(drift)
        if live.bundle_id != self._bundle:  # erasing a user writes the same bundle again
            self.trained.set((bundle / "manifest.json").stat().st_mtime)
            self._bundle = live.bundle_id

    def text(self) -> bytes:
        """In Prometheus' text format, of all workers."""
        # Feast sets the variable too, when it is imported; what counts is whether prometheus_client has seen it.
        if ValueClass is MutexValue:
            return generate_latest(self.registry)
        _forget_killed()
        whole = CollectorRegistry()
        MultiProcessCollector(whole)  # type: ignore[no-untyped-call]
        return generate_latest(whole)

    def _begin(self) -> None:
        """Let series begin at 0: Prometheus sees no increase in a series that begins at 1."""
        for counter, labels in (
            (self.refused, ("encoder", "audiences", "rate")), (self.tiers, ("warm", "linked", "cold", "unknown")),
            (self.texts, ("encoded", "remembered")), (self.user_texts, ("near", "far")),
            (self.learned, ("promoted", "refused", "nothing new", "failed")),
            (self.background, ("push profiles", "learn", "explore")),
        ):  # fmt: skip
            for label in labels:
                counter.labels(label)
        self.followed.set(time.time())


def leave() -> None:
    """Take what this worker says of the moment out of the numbers of all, before it ends; what it has counted stays."""
    if ValueClass is not MutexValue:
        mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]


def _forget_killed() -> None:
    """Do for workers that were killed what they could not do: `leave`."""
    for file in glob.glob(os.path.join(os.environ[SHARED], "gauge_live*_*.db")):
        pid = int(Path(file).stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
        except PermissionError:
            pass  # it lives, as another user
