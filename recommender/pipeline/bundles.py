"""The bundle that serves, and others that are kept beside it: candidates and earlier ones.

    data/bundle/                    what serves
    data/bundle.kept/ID/            bundles by id, the serving one among them
    data/bundle.kept/journal.jsonl  what was promoted, refused and rolled back, and why
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import staged, write_text
from coldstart_udfs.locks import writing
from recommender.model.bundle import BundleError, bundle_id, read_manifest, verified

Step = Literal["promoted", "refused", "rolled back"]

_JOURNAL = "journal.jsonl"
# A file in the folder of a kept bundle that an experiment shows: the bundle is not removed.
_SHOWN = "in-experiment"
# Bundles that are kept beside the serving one, the oldest go first.
KEPT = 5


@dataclass(frozen=True)
class Entry:
    """A line of the journal.

    Attributes:
        at: when, UTC, in ISO format.
        step: what was done.
        bundle: id of the bundle that was promoted, refused, or is served again.
        before: id of the bundle that served until then; "" for none.
        why: a sentence.
        watermark: of the last entry of the event log that the bundle holds; None if it holds none.
        seen: the last entry of the event log that it was trained on or compared on; None by hand.
    """

    at: str
    step: Step
    bundle: str
    before: str
    why: str
    watermark: int | None
    seen: int | None = None


@dataclass(frozen=True)
class Kept:
    """A bundle: its folder, id and manifest, whether it serves, and the last line of the journal about it."""

    folder: Path
    id: str
    manifest: dict[str, Any]
    serves: bool
    last: Entry | None


def kept_folder(bundle: Path) -> Path:
    """The folder of the bundles that are kept beside a bundle."""
    return bundle.with_name(f"{bundle.name}.kept")


def candidate_folder(bundle: Path) -> Path:
    """The folder of the bundle that `coldstart learn` trains."""
    return bundle.with_name(f"{bundle.name}.candidate")


def journal(bundle: Path) -> list[Entry]:
    """What was done, oldest first."""
    path = kept_folder(bundle) / _JOURNAL
    if not path.exists():
        return []
    return [Entry(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def kept(bundle: Path) -> list[Kept]:
    """All bundles, the newest first."""
    serving, entries = _id(bundle), journal(bundle)
    found = []
    for folder in kept_folder(bundle).glob("*/"):
        try:
            manifest = read_manifest(folder)
        except BundleError:
            continue  # a copy that was interrupted
        last = next((entry for entry in reversed(entries) if folder.name in (entry.bundle, entry.before)), None)
        found.append(Kept(folder, folder.name, manifest, folder.name == serving, last))
    if serving and not any(one.serves for one in found):  # as `coldstart train` has written it
        found.append(Kept(bundle, serving, read_manifest(bundle), True, None))
    return sorted(found, key=lambda one: (one.folder / "manifest.json").stat().st_mtime, reverse=True)


def promote(bundle: Path, candidate: str | Path, why: str = "by hand", seen: int | None = None) -> Entry:
    """Serve another bundle. Workers notice it by themselves; the one before is kept.

    Args:
        bundle: the folder that is served from.
        candidate: the id of a kept bundle, or a folder.
        why: for the journal.
        seen: likewise, see `Entry`.

    Raises:
        BundleError: there is no such bundle, or it is damaged.
        InUseError: another process writes the bundle.
    """
    folder = candidate if isinstance(candidate, Path) else _kept(bundle, candidate)
    verified(folder)
    with writing(bundle, command="coldstart bundles promote", wait=5):
        return _serve(bundle, folder, "promoted", why, seen)


def refuse(bundle: Path, candidate: Path, why: str, seen: int | None = None) -> Entry:
    """Keep a candidate without serving it, and note why."""
    with writing(bundle, command="coldstart learn", wait=5):
        _keep(bundle, candidate)
        return _note(bundle, "refused", bundle_id(read_manifest(candidate)), _id(bundle), why, candidate, seen)


def rollback(bundle: Path, why: str = "by hand") -> Entry:
    """Serve the bundle before the serving one again; a second rollback goes one further back.

    Raises:
        BundleError: there is none, or it is not kept any more.
        InUseError: another process writes the bundle.
    """
    with writing(bundle, command="coldstart bundles rollback", wait=5):
        stack: list[str] = []
        for entry in journal(bundle):
            if entry.step == "promoted":
                stack += [name for name in (entry.before, entry.bundle) if name and name not in stack[-1:]]
            elif entry.step == "rolled back" and len(stack) > 1:
                stack.pop()
        if len(stack) < 2 or stack[-1] != _id(bundle):
            raise BundleError(
                f"no bundle was promoted over another in {bundle}; `coldstart bundles list` shows which are kept, and "
                "`coldstart bundles promote ID` serves one"
            )
        return _serve(bundle, _kept(bundle, stack[-2]), "rolled back", why)


def held(bundle: Path, name: str) -> Path:
    """The folder of a kept bundle, which stays until `release`, however many are kept after it.

    Raises:
        BundleError: there is no such bundle.
    """
    folder = _kept(bundle, name)
    with contextlib.suppress(OSError):  # where nothing is written, nothing is removed
        (folder / _SHOWN).touch()
    return folder


def release(bundle: Path, names: Collection[str]) -> None:
    """Let kept bundles be removed in their turn, but those with some ids, which are `held`."""
    for mark in kept_folder(bundle).glob(f"*/{_SHOWN}"):
        if mark.parent.name not in names:
            with contextlib.suppress(OSError):
                mark.unlink()


def _serve(bundle: Path, folder: Path, step: Step, why: str, seen: int | None = None) -> Entry:
    before = _id(bundle)
    if before:
        _keep(bundle, bundle)
    place = _keep(bundle, folder)
    manifest = read_manifest(place)
    bundle.mkdir(parents=True, exist_ok=True)
    old = {path for path in bundle.glob("arrays-*.npz") if path.name != manifest["arrays"]}
    with staged(bundle) as scratch:
        shutil.copy(place / manifest["arrays"], scratch)
    # Last: readers see the old bundle or the new one.
    write_text(bundle / "manifest.json", (place / "manifest.json").read_text(encoding="utf-8"))
    for path in old:
        path.unlink()
    entry = _note(bundle, step, bundle_id(manifest), before, why, bundle, seen)
    _prune(bundle)
    return entry


def _keep(bundle: Path, folder: Path) -> Path:
    """Copy a bundle to its place among the kept ones."""
    manifest = read_manifest(folder)
    place = kept_folder(bundle) / bundle_id(manifest)
    if place != folder and not (place / "manifest.json").exists():
        with staged(place) as scratch:
            shutil.copy(folder / manifest["arrays"], scratch)
            shutil.copy(folder / "manifest.json", scratch)
    return place


def _prune(bundle: Path) -> None:
    rest = [one for one in kept(bundle) if not one.serves and not (one.folder / _SHOWN).exists()]
    for one in rest[KEPT:]:
        shutil.rmtree(one.folder)


def _note(
    bundle: Path, step: Step, name: str, before: str, why: str, held_by: Path, seen: int | None = None
) -> Entry:
    held = read_manifest(held_by).get("events") or {}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = Entry(now, step, name, before, why, held.get("watermark"), seen)
    path = kept_folder(bundle) / _JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return entry


def _kept(bundle: Path, name: str) -> Path:
    folder = kept_folder(bundle) / name
    if Path(name).name != name or not (folder / "manifest.json").is_file():
        ids = ", ".join(one.id for one in kept(bundle)) or "none"
        raise BundleError(f"no bundle {name!r} is kept beside {bundle}; kept are {ids}")
    return folder


def _id(bundle: Path) -> str:
    try:
        return bundle_id(read_manifest(bundle))
    except ColdStartError:
        return ""


def all_folders(bundle: Path) -> Sequence[Path]:
    """The serving bundle, the kept ones, and the candidate of a `coldstart learn` that runs or was killed."""
    candidate = [candidate_folder(bundle)] if (candidate_folder(bundle) / "manifest.json").exists() else []
    return list(dict.fromkeys([bundle, *(one.folder for one in kept(bundle)), *candidate]))
