"""docs/reference/command-line.md, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

from typer.main import get_command

from recommender.cli.app import app

from .markdown import fence, prose, table

_INTRODUCTION = """\
# Command line

Every command with its options. `coldstart COMMAND --help` shows the same in a terminal.

| exit status | meaning |
|---|---|
| 0 | success |
| 1 | the command ran, and its result is negative: an SQL statement failed, features differ, a stored row is newer |
| 2 | an error that you can correct; one line on stderr says what was given, what is possible and what to do |
| 130 | stopped by Ctrl-C |
"""


def page() -> str:
    """The page."""
    root = get_command(app)
    commands = list(_commands(root, "coldstart"))
    parts = [_INTRODUCTION]
    for panel, names in _panels(root).items():
        rows = [(f"[`{name}`](#{_anchor(name)})", _summary(command))
                for name, command in commands if name.split()[1] in names]  # fmt: skip
        parts.append(f"{panel}:\n\n{table(('command', 'what it does'), rows)}\n")
    parts += [_section(name, command) for name, command in commands]
    return "\n".join(parts)


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The commands that do something, with their whole names; not the groups."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _panels(root: Any) -> dict[str, list[str]]:
    panels: dict[str, list[str]] = {}
    for name, command in root.commands.items():
        panels.setdefault(command.rich_help_panel, []).append(name)
    return panels


def _section(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    words = " ".join([name, *command.collect_usage_pieces(context)]).replace("{", "").replace("}", "")
    paragraphs = [prose(paragraph) for paragraph in command.help.split("\n\n")]
    params = [param for param in command.get_params(context) if param.name != "help"]
    parts = [f"## {name}", *paragraphs, fence("text", words)]
    if params:
        rows = [(_name(param), _type(param, context), _default(param), prose(param.help)) for param in params]
        parts.append(table(("option", "type", "default", "meaning"), rows))
    parts.append(fence("console", "\n".join(f"$ {example}" for example in command.examples)))
    return "\n\n".join(parts) + "\n"


def _name(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"`{param.metavar}`"
    return ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))


def _type(param: Any, context: Any) -> str:
    word = "argument" if param.param_type_name == "argument" else param.display_type_rich(context) or "flag"
    limit = f", at least {param.min}" if param.min is not None else ""
    return f"{word}{limit}{', repeatable' if getattr(param, 'multiple', False) else ''}"


def _default(param: Any) -> str:
    if param.required:
        return "required"
    value = param.default.value if isinstance(param.default, Enum) else param.default
    if value is None or param.show_default is False:
        return ""
    if isinstance(value, bool):
        return f"`{param.opts[0]}`" if value else ""
    return f"`{value}`"


def _summary(command: Any) -> str:
    return prose(command.help.split("\n\n")[0])


def _anchor(name: str) -> str:
    return name.replace(" ", "-")
