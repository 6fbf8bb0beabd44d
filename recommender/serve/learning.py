"""Learn from the event log: train a candidate, compare it with the bundle that serves, promote or refuse it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text
from coldstart_udfs.locks import writing
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.data.events import EventWeights
from recommender.data.tables import ingest
from recommender.model.bundle import BundleError, read_bundle, read_manifest
from recommender.model.recommender import HybridRecommender
from recommender.pipeline.bundles import Entry, journal, kept_folder, promote, refuse
from recommender.pipeline.profiles import build_profiles
from recommender.pipeline.training import train
from recommender.serve.events.export import export
from recommender.serve.events.following import Following, following
from recommender.serve.events.log import EventLog
from recommender.serve.shadow import Comparison, compare

# The newest share of the entries that the serving bundle does not hold, on which it is compared with the candidate.
HELD_BACK = 0.2
# Fewer rankings say too little.
FEWEST = 30


@dataclass(frozen=True)
class Learned:
    """What `learn` did: the line of the journal, and the comparison; None where no bundle served before."""

    entry: Entry
    comparison: Comparison | None


def learn(
    log: EventLog, raw: Path, data: Path, repo: Path, bundle: Path, exported: Path, *, report: Report = no_report
) -> Learned | None:
    """Train a candidate on the raw files and the log, except for its newest events, and compare both on these.

    The candidate is promoted unless it is worse: unless the whole 95 % interval of the difference in NDCG@20 lies below
    zero, or there are fewer than `FEWEST` rankings. What was held back counts in the candidate as events after the
    bundle do. Whatever was decided, the same entries of the log are not tried again.

    Args:
        log: the event log.
        raw: the raw files of the shop, see `recommender.data.tables.ingest`.
        data: the folder of the tables, which are written again.
        repo: an applied Feast repository, whose sources are written again.
        bundle: the bundle that serves; it need not exist.
        exported: the folder of the export, which is written again.
        report: called with (stage, done, total).

    Returns:
        What was done; None if the log has nothing that was not tried yet.

    Raises:
        ColdStartError: of export, ingest, profiles or training; the bundle that serves stays.
        InUseError: another process learns, or writes what this one would write.
    """
    candidate = bundle.with_name(f"{bundle.name}.candidate")
    with writing(kept_folder(bundle) / "learning", command="coldstart learn"):
        try:
            return _learn(log, raw, data, repo, bundle, exported, candidate, report)
        finally:
            shutil.rmtree(candidate, ignore_errors=True)


def _learn(
    log: EventLog, raw: Path, data: Path, repo: Path, bundle: Path, exported: Path, candidate: Path, report: Report
) -> Learned | None:
    settings = Enrichment.of_repo(repo)
    weights = EventWeights.of_settings(settings)
    current, last = _serving(log, bundle, weights), log.last
    held = current.watermark if current else 0
    until = last - max(1, round((last - held) * HELD_BACK)) if current else last
    tried = max((entry.watermark or 0 for entry in journal(bundle)), default=0)
    if current and until <= max(held, tried):
        return None
    export(log, exported, report, until=until)
    ingest(raw, data, settings.event_weights, model=settings.model, events=exported)
    build_profiles(data, repo, report=report)
    before = (repo / ENRICHMENT_FILE).read_text(encoding="utf-8") if (repo / ENRICHMENT_FILE).exists() else None
    trained = train(data, repo, candidate, report=report)
    if current is None:
        return Learned(promote(bundle, candidate, "the first bundle"), None)
    current.follow(log, until=until)
    events = [event for _, event in log.after(until, limit=last - until).events]
    found = compare(HybridRecommender.of(current.fitted), trained, events, weights)
    told = (f"NDCG@20 {found.candidate:.4f} against {found.current:.4f} on {found.rankings:,} rankings, difference "
            f"{found.low:+.4f} to {found.high:+.4f}")  # fmt: skip
    if found.rankings >= FEWEST and found.high >= 0:
        return Learned(promote(bundle, candidate, told), found)
    if before is not None:  # training has written the candidate's α
        write_text(repo / ENRICHMENT_FILE, before)
    few = f", fewer than {FEWEST}" if found.rankings < FEWEST else ", worse"
    return Learned(refuse(bundle, candidate, told + few), found)


def _serving(log: EventLog, bundle: Path, weights: EventWeights) -> Following | None:
    """The bundle that serves, without the log beyond it; None if there is none."""
    try:
        manifest = read_manifest(bundle)
    except BundleError as error:
        if (bundle / "manifest.json").exists():
            raise ColdStartError(f"{error}; or `coldstart bundles rollback`") from None
        return None
    return following(read_bundle(bundle), manifest, log, weights)
