"""Opening the event log of a bundle, and no other one."""

from __future__ import annotations

from pathlib import Path

from coldstart_udfs.errors import ColdStartError
from recommender.model.bundle import read_manifest
from recommender.serve.events.log import EventLog


def open_log(url: str, bundle: Path) -> EventLog:
    """Open the log that a bundle was trained from; one that was trained from files alone takes any, or a new one.

    Args:
        url: see `EventLog.open`.
        bundle: its folder.

    Raises:
        BundleError: there is no usable bundle.
        ColdStartError: there is no log at the URL, or another one than the bundle holds, or an older copy of it. Its
            events would count twice or never. No log was made.
    """
    held = read_manifest(bundle).get("events") or {}
    watermark = int(held.get("watermark", 0))
    if not watermark:
        return EventLog.open(url)
    log = EventLog.open(url, create=False)
    try:
        if log.identity != held.get("log"):
            found = "it is empty" if log.last == 0 else f"its last entry is {log.last:,}"
            wrong = f"the log in --events is another one ({found})"
        elif log.last < watermark:
            wrong = f"the log in --events is an older copy, which ends at entry {log.last:,}"
        else:
            return log
        raise ColdStartError(
            f"{bundle} holds an event log up to entry {watermark:,}, and {wrong}; name or restore the log that it was "
            "trained from, or train it without that log: `coldstart ingest`, `coldstart train`"
        )
    except BaseException:
        log.close()
        raise
