"""HTML and JSON files beside a repository that quote an entity: reports of `coldstart evaluate`, above all."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

_ENDINGS = (".html", ".htm", ".json", ".jsonl")
# Reports cut texts at this length or later.
_LETTERS = 100


def quoting(repo: Path, folders: Iterable[Path], entity_id: str, texts: Iterable[str]) -> tuple[list[Path], int]:
    """The files that quote an id or a text.

    Searched are the HTML and JSON files in the repository, in `folders`, and directly beside the repository.

    Args:
        repo: the repository.
        folders: searched with everything in them, as the repository is.
        entity_id: found in HTML where the reports of `coldstart evaluate` show ids, in JSON as a whole string.
        texts: found on one line or several, escaped or not, also if cut after 100 letters.

    Returns:
        The files, and the number of files searched.
    """
    texts = list(texts)
    in_json = [re.escape(json.dumps(entity_id, ensure_ascii=ascii_only)) for ascii_only in (True, False)]
    in_html = [rf'class="id">(?:user )?{re.escape(html.escape(entity_id))}(?=[ ,<])']
    any_json, any_html = (re.compile("|".join(chain(ids, _patterns(texts)))) for ids in (in_json, in_html))
    searched = sorted(set(_files(repo, folders)))
    found = []
    for path in searched:
        content = _content(path)
        pages = [content, " ".join(html.unescape(content).split())]
        pattern = any_html if path.suffix.lower() in (".html", ".htm") else any_json
        if any(pattern.search(page) for page in pages):
            found.append(path)
    return found, len(searched)


def _files(repo: Path, folders: Iterable[Path]) -> Iterator[Path]:
    for folder in (repo, *folders):
        yield from (path.resolve() for path in folder.rglob("*") if _is_report(path))
    yield from (path.resolve() for path in repo.parent.iterdir() if _is_report(path))


def _is_report(path: Path) -> bool:
    return path.suffix.lower() in _ENDINGS and path.is_file()


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _patterns(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        line = " ".join(text.split())
        if not line:
            continue
        head = line[:_LETTERS].rstrip()
        end = "" if len(line) > _LETTERS else r"(?!\w)"
        for shape in {head, html.escape(head), json.dumps(head)[1:-1], json.dumps(text[:_LETTERS])[1:-1]}:
            yield rf"(?<!\w){re.escape(shape)}{end}"
