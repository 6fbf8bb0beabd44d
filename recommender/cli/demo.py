"""`coldstart demo`: the commands that a user would run, one by one, on Online Retail.

A step is skipped if its command, its inputs, the code and its outputs are unchanged since its last run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text
from coldstart_udfs.locks import writing
from coldstart_udfs.settings import Enrichment
from recommender.pipeline.profiles import SOURCES

NEW_USER = "I run a small garden cafe and look for vintage enamel and hanging decorations"
NEW_ITEM = "SET OF 6 HERB GARDEN TIN POTS"
# ENAMEL WATERING CAN CREAM.
EXPLAINED = "22430"

_RAW = "examples/online_retail"
_EVALUATION, _PAGE = "data/evaluation.json", "data/evaluation.html"
# Colour and size variants share the first five digits of their item_id, and are held out together.
_BY_STEM = "data/items_by_stem.parquet"
_STATE = "data/demo.json"
_ITEMS, _USERS, _INTERACTIONS = _TABLES = tuple(f"data/{name}.parquet" for name in ("items", "users", "interactions"))
_SOURCES = tuple(f"feature_repo/data/{path}" for path in SOURCES.values())
_DEFINITIONS = ("feature_repo/feature_definitions.py", "feature_repo/feature_store.yaml")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ENRICHMENT = "feature_repo/enrichment.json"
_REGISTRY, _ONLINE = "feature_repo/data/registry.db", "feature_repo/data/online_store.db"


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: unique.
        command: the words of the command line.
        inputs: files that the step reads; a folder stands for all files in it.
        outputs: files that only this step writes; their contents are compared.
        exists: files that other steps write too; only their presence is checked.
        again: run the step every time, because its output is the purpose of the demo.
    """

    name: str
    command: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    exists: tuple[str, ...] = ()
    again: bool = False


def run(console: Console, show_evaluation: Callable[[dict[str, Any]], None]) -> Path:
    """Run every step that is not up to date, from the root of the clone.

    Args:
        console: where the commands and what they do are printed.
        show_evaluation: prints the evaluation of Online Retail if its step was skipped.

    Returns:
        The folder of the shop.

    Raises:
        ColdStartError: the package does not lie in a clone, or a command failed.
    """
    root = clone()
    os.chdir(root)
    with writing(Path(_STATE), command="coldstart demo"):
        started = time.monotonic()
        _run_online_retail(code_hash(root), console, show_evaluation)
    console.print(f"\n[bold]The demo took {time.monotonic() - started:.0f} s.[/]")
    return root


def clone() -> Path:
    """The root of the clone in which the package lies.

    Raises:
        ColdStartError: it lies elsewhere, without the example data.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / _RAW / "ingest.sql").is_file():
        raise ColdStartError(
            "the demo needs the example data, which the installed package does not include; clone the repository and "
            "run `make demo` there, or start a shop of your own with `coldstart init`"
        )
    return root


def serve_page(console: Console, shop: Path) -> None:
    """Serve a shop on this machine until Ctrl-C, and open its page where there is a display.

    Args:
        console: where the address is printed.
        shop: the folder with feature_repo and data/bundle.

    Raises:
        ColdStartError: the service ended.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, log = f"http://127.0.0.1:{port}/", shop / "data" / "serve.log"
    command = [sys.executable, "-m", "recommender.cli", "serve", "--port", str(port)]
    with log.open("wb") as lines, subprocess.Popen(command, cwd=shop, stdout=lines, stderr=lines) as service:
        try:
            console.print(f"Starting the service; its log is {log}", markup=False)
            while not _is_ready(port):
                if service.poll() is not None:
                    raise ColdStartError(f"the service ended; {log} says: {log.read_text(encoding='utf-8')[-500:]}")
                time.sleep(0.2)
            console.print(f"Open {address} in a browser. Ctrl-C ends the service.", markup=False)
            if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
                webbrowser.open(address)
            service.wait()
        except KeyboardInterrupt:
            service.terminate()


def _is_ready(port: int) -> bool:
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=5)) as link:
        try:
            link.request("GET", "/readyz")
            return link.getresponse().status == HTTPStatus.OK
        except (OSError, HTTPException):
            return False


def _run_online_retail(code: str, console: Console, show_evaluation: Callable[[dict[str, Any]], None]) -> None:
    steps = [_ingest(), _profiles(), _apply("feast apply")]
    for step in steps:
        _do(step, code, console)
    steps = [
        _materialize(), _train(), _apply("feast apply with what training chose", _ENRICHMENT), _stems(), _evaluate(),
    ]  # fmt: skip
    for step in steps:
        if not _do(step, code, console) and step.name == "evaluate":
            show_evaluation(json.loads(Path(_EVALUATION).read_text(encoding="utf-8")))
    for step in _answers():
        _do(step, code, console)


def _ingest() -> Step:
    return Step("ingest", ("coldstart", "ingest", _RAW), (_RAW,), _TABLES)


def _profiles() -> Step:
    model = Enrichment.of_repo(Path("feature_repo")).model
    # Of enrichment.json this step depends on the encoder alone, so the file is not an input: training rewrites α.
    return Step(f"profiles with {model}", ("coldstart", "profiles"), (*_TABLES, "feature_repo/sql"), _SOURCES)


def _apply(name: str, *settings: str) -> Step:
    return Step(name, ("feast", "-c", "feature_repo", "apply"), (*_DEFINITIONS, *_SOURCES, *settings), (), (_REGISTRY,))


def _materialize() -> Step:
    sources = f"read_parquet({list(_SOURCES)}, union_by_name = true)"
    query = f"SELECT min(event_timestamp), max(event_timestamp) FROM {sources}"
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        first, last = con.execute(query).fetchall()[0]
    span = (f"{first:%Y-%m-%dT%H:%M:%S}", f"{last:%Y-%m-%dT%H:%M:%S}")
    command = ("feast", "-c", "feature_repo", "materialize", *span)
    return Step("feast materialize", command, (*_DEFINITIONS, *_SOURCES), (), (_REGISTRY, _ONLINE))


def _train() -> Step:
    return Step("train", ("coldstart", "train"), (*_TABLES, *_SOURCES), ("data/bundle", _ENRICHMENT), (_REGISTRY,))


def _stems() -> Step:
    query = f"COPY (SELECT *, left(item_id, 5) AS stem FROM '{_ITEMS}') TO '{_BY_STEM}'"
    return Step("items by stem", ("coldstart", "sql", "-c", query), (_ITEMS,), (_BY_STEM,))


def _evaluate() -> Step:
    tables = (_BY_STEM, _USERS, _INTERACTIONS)
    files = [word for name, path in zip(("items", "users", "interactions"), tables, strict=True)
             for word in (f"--{name}", path)]  # fmt: skip
    command = ("coldstart", "evaluate", *files, "--split", "item_cold", "--group-column", "stem", "--seeds", "1",
               "--tuning", "0.25", "--json", _EVALUATION, "--html", _PAGE)  # fmt: skip
    return Step("evaluate", command, tables, (_EVALUATION, _PAGE))


def _answers() -> list[Step]:
    return [
        Step("recommend", ("coldstart", "recommend", "--description", NEW_USER), again=True),
        Step("audience", ("coldstart", "audience", "--description", NEW_ITEM), again=True),
        Step("explain", ("coldstart", "explain", "--description", NEW_USER, "--item-id", EXPLAINED), again=True),
    ]


def _state() -> dict[str, Any]:
    return json.loads(Path(_STATE).read_text()) if Path(_STATE).is_file() else {}


def _is_current(step: Step, code: str) -> bool:
    now = {"asked": file_hash(step.inputs, code, *step.command), "made": file_hash(step.outputs)}
    return bool(_state().get(step.name) == now) and all(map(os.path.isfile, step.exists))


def _do(step: Step, code: str, console: Console) -> bool:
    """Run a step unless it is up to date, and return whether it ran."""
    asked = file_hash(step.inputs, code, *step.command)
    console.print(f"\n[bold green]$ {shlex.join(step.command)}[/]", soft_wrap=True)
    if _is_current(step, code) and not step.again:
        console.print("  unchanged since the last run, skipped", style="dim")
        return False
    started = time.monotonic()
    program = Path(sys.executable).with_name(step.command[0])
    status = run_feast(program, step.command, console) if program.name == "feast" else _run(program, step)
    if status:
        raise ColdStartError(f"`{shlex.join(step.command)}` failed with status {status}; see its message above")
    console.print(f"  {time.monotonic() - started:.1f} s", style="dim")
    if not step.again:
        state = _state() | {step.name: {"asked": asked, "made": file_hash(step.outputs)}}
        write_text(Path(_STATE), json.dumps(state, indent=2) + "\n")
    return True


def _run(program: Path, step: Step) -> int:
    return subprocess.run([str(program), *step.command[1:]], check=False).returncode


# Feast prints the whole definition of a changed view, before and after, registration times of unchanged sources, and
# warnings about its own code. The demo shows the headings and α.
_TOLD = re.compile(r"^(Created|Updated|Deleted|Materializing|No changes|\S+:$|.*[Ee]rror)|^\s+(-> )?(name|alpha)=")


def run_feast(program: Path, command: tuple[str, ...], console: Console) -> int:
    """Run a command of Feast, show of what it says the headings and α, and return its exit status."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    with subprocess.Popen(
        [str(program), *command[1:]], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            plain = _COLOUR.sub("", line.rstrip())
            if _TOLD.match(plain):
                console.print(f"  {plain}", markup=False, soft_wrap=True)
    if process.returncode:
        console.print("".join(lines), markup=False, soft_wrap=True)
    return process.returncode


def code_hash(root: Path) -> str:
    """A hash of the code of a clone, whose change makes every step run again."""
    patterns = ("coldstart_udfs/**/*.py", "recommender/**/*.py", "constraints.txt")
    return file_hash(tuple(sorted(str(path.relative_to(root)) for pattern in patterns for path in root.glob(pattern))))


def file_hash(paths: tuple[str, ...], *words: str) -> str:
    """A hash of words, and of the names and contents of files and of all files in folders."""
    digest = hashlib.sha256("\0".join(words).encode())
    for name in paths:
        path = Path(name)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            digest.update(f"\0{file}\0".encode())
            if file.is_file():
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
