"""What the sources of a Feast repository were made from: `data/made_from.json`, which `coldstart profiles` writes."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from coldstart_udfs.files import write_text

_FILE = "made_from.json"
_WRITTEN = (".html", ".json", ".search.jsonl")
_TABLES = ("items", "users", "interactions", "facts")


@dataclass(frozen=True)
class MadeFrom:
    """The data behind a repository's sources.

    Attributes:
        data: the folder of the tables, relative to the repository.
        sha256: their `data_hash`.
        rows: number of rows by table.
        complete: False from before the first source is written until after the last.
    """

    data: str
    sha256: str
    rows: dict[str, int]
    complete: bool = True

    @classmethod
    def of_data(cls, repo: Path, data: Path, rows: dict[str, int], *, sha256: str) -> MadeFrom:
        """What sources that are made from `data` are made from."""
        return cls(os.path.relpath(data.resolve(), repo.resolve()), sha256, rows)

    @classmethod
    def of_repo(cls, repo: Path) -> MadeFrom | None:
        """What the repository says; None if it says nothing (its sources are the user's own, or an older version's)."""
        try:
            return cls(**json.loads((repo / "data" / _FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, repo: Path) -> None:
        """Write it into the repository."""
        values: dict[str, Any] = asdict(self)
        write_text(repo / "data" / _FILE, json.dumps(values, indent=2) + "\n")

    def problem(self, repo: Path, data: Path, sha256: str) -> str | None:
        """What is wrong if the data now have this hash, and the command that mends it; None if nothing is."""
        mended = f"run `coldstart profiles --data {data} --repo {repo}`, then `feast -c {repo} materialize`"
        if not self.complete:
            return f"the last `coldstart profiles` was stopped while it wrote the sources of {repo}; {mended}"
        if self.sha256 != sha256:
            rows = ", ".join(f"{count:,} {table}" for table, count in self.rows.items())
            return f"the sources of {repo} were made from other data ({rows}) than {data} holds now; {mended}"
        return None


def data_hash(folder: Path) -> str:
    """The sha256 over the files of the tables of the data contract, in hexadecimal digits.

    A folder with an `ingest.sql` can make the tables of files with any name: then all count, except reports, hidden
    files and the journals of searches.
    """
    scripted = (folder / "ingest.sql").is_file()
    found = folder.iterdir() if scripted else (path for table in _TABLES for path in folder.glob(f"{table}.*"))
    return files_hash(
        path for path in found
        if path.is_file() and not path.name.startswith(".") and not (scripted and path.name.endswith(_WRITTEN))
    )  # fmt: skip


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The installed versions of packages, without those that are not installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def files_hash(files: Iterable[Path]) -> str:
    """The sha256 over some files, in the order of their paths, in hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()


def erased(repo: Path, data: Path, before: str) -> None:
    """Follow an erasure from sources and tables alike: the sources still belong to the tables if they did before."""
    known = MadeFrom.of_repo(repo)
    if known and known.sha256 == before:
        replace(known, sha256=data_hash(data)).write(repo)


def warn_of_changed_data(repo: Path) -> None:
    """Warn if the repository's sources were not made from what is in their data folder now; for `feast apply`."""
    known = MadeFrom.of_repo(repo)
    if known is None or not (folder := repo / known.data).is_dir():
        return
    # Whole paths: Feast works in the folder of the repository, and the user does not.
    problem = known.problem(repo.resolve(), folder.resolve(), data_hash(folder))
    if problem:
        warnings.warn(problem, UserWarning, stacklevel=2)
