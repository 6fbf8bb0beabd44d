"""Learn from the event log: train a candidate, compare it with the bundle that serves, promote or refuse it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.locks import writing
from coldstart_udfs.settings import Enrichment
from recommender.data.events import EventWeights
from recommender.data.tables import ingest
from recommender.model.bundle import BundleError, read_bundle, read_manifest
from recommender.model.recommender import HybridRecommender
from recommender.pipeline.bundles import Entry, candidate_folder, journal, kept_folder, promote, refuse
from recommender.pipeline.forget import erase_from_bundle
from recommender.pipeline.profiles import build_profiles
from recommender.pipeline.training import settle_alpha, train
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
    bundle do. Whatever was decided, the same entries of the log are not tried again. If the process is killed, the
    bundle that serves and the α of the repository are as before; tables and sources may be newer.

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
    candidate = candidate_folder(bundle)
    with writing(kept_folder(bundle) / "learning", command="coldstart learn"):
        shutil.rmtree(candidate, ignore_errors=True)  # of one that was killed
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
    entries = journal(bundle)
    tried = max((entry.watermark or 0 for entry in entries), default=0)
    seen = max((entry.seen or 0 for entry in entries), default=0)
    if current and (until <= max(held, tried) or last <= seen):
        return None
    export(log, exported, report, until=until)
    ingest(raw, data, settings.event_weights, model=settings.model, events=exported)
    build_profiles(data, repo, report=report)
    trained = train(data, repo, candidate, settle=False, report=report)
    _forget(log.erased(trained.users.ids, after=until), candidate, data, repo)
    if current is None:
        return Learned(_promoted(bundle, candidate, repo, trained, "the first bundle", last), None)
    current.follow(log, until=until)
    events = [event for _, event in log.after(until, limit=last - until).events]
    found = compare(HybridRecommender.of(current.fitted), trained, events, weights)
    told = (f"NDCG@20 {found.candidate:.4f} against {found.current:.4f} on {found.rankings:,} rankings, difference "
            f"{found.low:+.4f} to {found.high:+.4f}")  # fmt: skip
    if found.rankings >= FEWEST and found.high >= 0:
        return Learned(_promoted(bundle, candidate, repo, trained, told, last), found)
    few = f", fewer than {FEWEST}" if found.rankings < FEWEST else ", worse"
    return Learned(refuse(bundle, candidate, told + few, last), found)


def _forget(user_ids: Sequence[str], candidate: Path, data: Path, repo: Path) -> None:
    """Erase who was erased from the log meanwhile: who erased them could not write what was being written here."""
    from coldstart_udfs.feast.operations.forget import forget

    erase_from_bundle(candidate, user_ids)
    for name in user_ids:
        forget(repo, "user", name, data=data)


def _promoted(bundle: Path, candidate: Path, repo: Path, trained: HybridRecommender, why: str, seen: int) -> Entry:
    entry = promote(bundle, candidate, why, seen)
    settle_alpha(repo, trained.parameters)
    return entry


def refresh_store(repo: Path) -> None:
    """Run `feast apply` and `feast materialize`, so that the online store has what a promoted bundle was trained on.

    Raises:
        ColdStartError: one of them failed.
    """
    program = Path(sys.executable).with_name("feast")
    until = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    for arguments in (["apply"], ["materialize", "1970-01-01T00:00:00", until]):
        done = subprocess.run(
            [str(program), "-c", str(repo), *arguments], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        if done.returncode:
            last = done.stdout.strip().rpartition("\n")[2]
            raise ColdStartError(f"`feast -c {repo} {' '.join(arguments)}` failed: {last}; run it again")


def _serving(log: EventLog, bundle: Path, weights: EventWeights) -> Following | None:
    """The bundle that serves, without the log beyond it; None if there is none."""
    try:
        manifest = read_manifest(bundle)
    except BundleError as error:
        if (bundle / "manifest.json").exists():
            raise ColdStartError(f"{error}; or `coldstart bundles rollback`") from None
        return None
    return following(read_bundle(bundle), manifest, log, weights)
