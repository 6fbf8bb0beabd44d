"""`coldstart demo NAME`: the commands in `demo.txt` of a folder of `examples/`, one by one, in a copy of the folder.

A line of `demo.txt` is a command; its first word is coldstart, feast or python. A line that starts with # is printed
before the command that follows it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text
from coldstart_udfs.locks import writing
from recommender.cli.demo import clone, code_hash, file_hash, run_feast

PROGRAMS = ("coldstart", "feast", "python")
_COMMANDS = "demo.txt"


@dataclass
class _Progress:
    """What a demo has done in its folder: a hash of what it was made from, and what each finished command printed."""

    made_from: str
    printed: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path, made_from: str) -> _Progress:
        """That of an earlier run; none is finished where there was no run, or one from something else."""
        if file.is_file():
            try:
                told = json.loads(file.read_text(encoding="utf-8"))
                if told["made_from"] == made_from:
                    return cls(made_from, list(map(str, told["printed"])))
            except (ValueError, LookupError, TypeError):  # damaged: the demo begins anew
                pass
        return cls(made_from)

    def write(self, file: Path) -> None:
        write_text(file, json.dumps({"made_from": self.made_from, "printed": self.printed}, indent=1) + "\n")


def run_example(console: Console, name: str) -> Path:
    """Run the commands of an example that are not finished.

    Args:
        console: where the commands and what they print are shown.
        name: a folder of `examples/` that has a `demo.txt`.

    Returns:
        The folder in which the commands ran, `data/NAME` of the clone.

    Raises:
        ColdStartError: there is no such example, the package does not lie in a clone, its folder is something else, or
            a command failed.
    """
    root = clone()
    there = sorted(file.parent.name for file in (root / "examples").glob(f"*/{_COMMANDS}"))
    if name not in there:
        raise ColdStartError(
            f"there is no demo {name!r}; there are {', '.join(there)}, and `coldstart demo` without a name runs "
            "Online Retail"
        )
    example, shop = root / "examples" / name, root / "data" / name
    state = shop / "demo.json"
    with writing(shop, command=f"coldstart demo {name}"):
        started = time.monotonic()
        progress = _Progress.read(state, file_hash((str(example),), code_hash(root)))
        if not progress.printed:
            if shop.exists() and not state.is_file():
                raise ColdStartError(
                    f"{shop} is not a demo's folder (no {state.name}); move it away, and run this again"
                )
            shutil.rmtree(shop, ignore_errors=True)
            shutil.copytree(example, shop)
            progress.write(state)
        os.chdir(shop)
        console.print(f"[bold green]$ cd {shop.relative_to(root)}[/]")
        for number, (heading, command) in enumerate(_commands(example / _COMMANDS)):
            if heading:
                console.print(f"\n{heading}", markup=False, soft_wrap=True)
            console.print(f"\n[bold green]$ {_shown(command)}[/]", soft_wrap=True)
            if number < len(progress.printed):
                console.print("  unchanged since the last run, skipped; it printed:", style="dim")
                console.print(progress.printed[number], markup=False, highlight=False, soft_wrap=True, end="")
                continue
            progress.printed.append(_do(command, console))
            progress.write(state)
    console.print(f"\n[bold]The demo took {time.monotonic() - started:.0f} s.[/]")
    return shop


def _commands(file: Path) -> list[tuple[str, tuple[str, ...]]]:
    commands, heading = [], []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading.append(line.lstrip("# "))
        elif line.strip():
            words = tuple(shlex.split(line))
            if words[0] not in PROGRAMS:
                raise ColdStartError(
                    f"{file}: {line!r} starts with {words[0]!r}; a command is one of {', '.join(PROGRAMS)}"
                )
            commands.append((" ".join(heading), words))
            heading = []
    return commands


def _shown(command: tuple[str, ...]) -> str:
    return shlex.join(command).replace("[", "\\[")


def _do(command: tuple[str, ...], console: Console) -> str:
    """Run a command, show what it prints, and return that."""
    started = time.monotonic()
    program = Path(sys.executable).with_name(command[0])
    if command[0] == "feast":
        with console.capture() as captured:
            status = run_feast(program, command, console)
        printed = captured.get()
        console.print(printed, markup=False, highlight=False, soft_wrap=True, end="")
    else:
        status, printed = _stream(program, command, console)
    if status:
        raise ColdStartError(f"`{shlex.join(command)}` failed with status {status}; see its message above")
    console.print(f"  {time.monotonic() - started:.1f} s", style="dim")
    return printed


def _stream(program: Path, command: tuple[str, ...], console: Console) -> tuple[int, str]:
    environment = {**os.environ, "COLUMNS": str(console.width), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    lines = []
    with subprocess.Popen(
        [str(program), *command[1:]], env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            console.print(line, markup=False, highlight=False, soft_wrap=True, end="")
    return process.returncode, "".join(lines)
