"""What Prometheus reads of a service, over all of its workers."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.values import MutexValue, ValueClass

# Where the workers of one service share their numbers; prometheus_client reads it when it is imported.
SHARED = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """The numbers of one worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.seconds = Histogram(
            "coldstart_request_seconds", "Time until the answer.", ["route"], buckets=_SECONDS, registry=r
        )
        self.requests = Counter("coldstart_requests", "Requests.", ["route", "status"], registry=r)
        self.tiers = Counter("coldstart_answers", "Answers by what is known of who asked.", ["tier"], registry=r)
        self.degraded = Counter("coldstart_degraded_answers", "Degraded answers.", ["reason"], registry=r)
        self.texts = Counter("coldstart_texts", "Texts, encoded or remembered.", ["source"], registry=r)
        self.events = Counter("coldstart_events", "Events accepted.", ["event_type"], registry=r)
        self.counted_alone = Counter(
            "coldstart_rates_alone", "Requests counted in one process, because Redis did not answer.", registry=r
        )
        self.waiting = Gauge(
            "coldstart_encoder_waiting", "Texts that wait for the encoder.", registry=r, multiprocess_mode="livesum"
        )
        self.pending = Gauge(
            "coldstart_pending_events", "Events that are not in the bundle.", registry=r, multiprocess_mode="livemax"
        )
        self.trained = Gauge(
            "coldstart_bundle_timestamp_seconds", "When the bundle was written.", registry=r,
            multiprocess_mode="livemin",
        )  # fmt: skip
        self.out_of_step = Gauge(
            "coldstart_degraded", "1 while answers are not made as they should be.", registry=r,
            multiprocess_mode="livemax",
        )  # fmt: skip

    def text(self) -> bytes:
        """In Prometheus' text format, of all workers."""
        # Feast sets the variable too, when it is imported; what counts is whether prometheus_client has seen it.
        if ValueClass is MutexValue:
            return generate_latest(self.registry)
        whole = CollectorRegistry()
        MultiProcessCollector(whole)  # type: ignore[no-untyped-call]
        return generate_latest(whole)


def leave() -> None:
    """Take what this worker says of the moment out of the numbers of all, before it ends; what it has counted stays."""
    if ValueClass is not MutexValue:
        mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]
