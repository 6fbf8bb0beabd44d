"""Opening the event log of a bundle, and no other one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    manifest = read_manifest(bundle)
    log = EventLog.open(url, create=not _watermark(manifest))
    try:
        check_log(log, manifest, bundle)
    except BaseException:
        log.close()
        raise
    return log


def check_log(log: EventLog, manifest: Mapping[str, Any], bundle: Path) -> None:
    """See that a log is the one that a bundle was trained from, if it was trained from one.

    Raises:
        ColdStartError: it is another one, or an older copy.
    """
    watermark = _watermark(manifest)
    if not watermark:
        return
    if log.identity != manifest["events"].get("log"):
        found = "it is empty" if log.last == 0 else f"its last entry is {log.last:,}"
        wrong = f"the log in --events is another one ({found})"
    elif log.last < watermark:
        wrong = f"the log in --events is an older copy, which ends at entry {log.last:,}"
    else:
        return
    raise ColdStartError(
        f"{bundle} holds an event log up to entry {watermark:,}, and {wrong}; name or restore the log that it was "
        "trained from, or train it without that log: `coldstart ingest`, `coldstart train`"
    )


def watermark_of(manifest: Mapping[str, Any], log: EventLog) -> int:
    """The id of the last entry of a log that a bundle holds; 0 if it was not trained from this log."""
    held = manifest.get("events") or {}
    return int(held.get("watermark", 0)) if held.get("log") == log.identity else 0


def _watermark(manifest: Mapping[str, Any]) -> int:
    return int((manifest.get("events") or {}).get("watermark", 0))
