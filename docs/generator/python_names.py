"""docs/reference/python.md: the public Python names, with signatures and docstrings."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, cast

from .markdown import docstring, fence

_INTRODUCTION = """\
# Python

The public names, by the module to import them from. `import coldstart_udfs` and `import recommender` load neither
DuckDB nor Feast nor a model: a name is loaded when it is first used.
"""

# Modules with an `__all__`, which is shown whole, and names of other modules.
_PACKAGES = ("recommender", "coldstart_udfs", "coldstart_udfs.feast", "coldstart_client")
_NAMES = {
    "recommender.model.parameters": ("Parameters",),
    "recommender.model.weights": ("Weights",),
    "recommender.data.events": ("EventWeights",),
    "recommender.data.tables": ("ingest",),
    "recommender.data.dataset": ("Dataset", "read_dataset"),
    "recommender.measure.splits": ("make_splits",),
    "recommender.evaluation.comparison": ("evaluate", "Evaluation"),
    "recommender.pipeline.profiles": ("build_profiles",),
    "recommender.pipeline.training": ("train",),
    "recommender.pipeline.online": ("online_user", "online_item"),
    "recommender.tracking": ("tracked", "Tracker"),
    "recommender.tracking.records": ("runs", "RunRecord"),
    "coldstart_udfs.settings": ("Enrichment",),
    "coldstart_udfs.profile": (
        "enrich", "evidence_weight", "user_profiles", "item_profiles", "sum_profiles", "similarity", "has_text",
    ),
    "coldstart_udfs.text.classify": ("Choice",),
    "coldstart_udfs.errors": ("ColdStartError", "FingerprintError"),
    "coldstart_udfs.feast.operations.stores": ("open_store",),
    "coldstart_udfs.feast.operations.put": ("put", "Put"),
    "coldstart_udfs.feast.operations.forget": ("forget", "Forgotten"),
    "coldstart_udfs.feast.operations.skew": ("measure_skew", "Skew"),
    "coldstart_udfs.feast.ray": ("Embedding", "embedding_view"),
}  # fmt: skip
_LINE = 100
# A default that is made anew for each object, as it is called.
_FACTORY = re.compile(r"field\(default_factory=([\w.]+)\)")


def page() -> str:
    """The page."""
    modules = {name: tuple(sorted(importlib.import_module(name).__all__)) for name in _PACKAGES} | _NAMES
    parts = [_INTRODUCTION]
    for module, names in modules.items():
        links = ", ".join(f"`{name}`" for name in names)
        parts.append(f"## {module}\n\n{links}\n")
        for name in names:
            parts += _object(module, name, getattr(importlib.import_module(module), name))
    return "\n".join(parts)


def _object(module: str, name: str, value: Any) -> Iterator[str]:
    yield f"### {module}.{name}\n"
    if not inspect.isclass(value):
        if inspect.isfunction(value):
            yield f"{fence('python', _signature(value))}\n\n{docstring(value.__doc__ or '')}\n"
        else:
            yield f"{fence('python', f'{name} = {value!r}')}\n"
        return
    yield f"{fence('python', _class_signature(value))}\n\n{docstring(value.__doc__ or '')}\n"
    for member, attribute in vars(value).items():
        if member.startswith("_") or isinstance(attribute, functools.cached_property):
            continue
        if isinstance(attribute, property):
            # mypy takes fget for optional.
            text = getattr(attribute.fget, "__doc__", None)
            if text:
                yield f"#### {name}.{member}\n\n{docstring(text)}\n"
        elif inspect.isfunction(function := getattr(attribute, "__func__", attribute)) and function.__doc__:
            yield f"#### {name}.{member}()\n\n{fence('python', _signature(function))}\n"
            yield f"{docstring(function.__doc__)}\n"


def _class_signature(value: type) -> str:
    """A class as it is called; of a class that is not made by users, its name and bases."""
    if dataclasses.is_dataclass(value):
        body = cast(ast.ClassDef, _parsed(value)).body
        fields = [ast.unparse(one) for one in body if isinstance(one, ast.AnnAssign)]
        return _call(f"class {value.__name__}", [_FACTORY.sub(r"\1()", one) for one in fields], "")
    if "__init__" in vars(value) and inspect.isfunction(vars(value)["__init__"]):
        return _call(f"class {value.__name__}", _parameters(vars(value)["__init__"])[1:], "")
    return f"class {value.__name__}({', '.join(base.__name__ for base in value.__bases__)})"


def _signature(function: Any) -> str:
    node = _node(function)
    parameters = _parameters(function)
    if parameters and parameters[0] in ("self", "cls"):
        parameters = parameters[1:]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return _call(f"async {node.name}" if isinstance(node, ast.AsyncFunctionDef) else node.name, parameters, returns)


def _call(name: str, parameters: list[str], returns: str) -> str:
    line = f"{name}({', '.join(parameters)}){returns}"
    if len(line) <= _LINE:
        return line
    return f"{name}(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + f"){returns}"


def _parameters(function: Any) -> list[str]:
    """As the source says them, so that a default is shown as it is written."""
    arguments = _node(function).args
    positional = [*arguments.posonlyargs, *arguments.args]
    without = len(positional) - len(arguments.defaults)
    defaults: list[ast.expr | None] = [*[None] * without, *arguments.defaults]
    found = [_parameter(*pair) for pair in zip(positional, defaults, strict=True)]
    if arguments.vararg:
        found.append(f"*{ast.unparse(arguments.vararg)}")
    elif arguments.kwonlyargs:
        found.append("*")
    found += [_parameter(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [*found, f"**{ast.unparse(arguments.kwarg)}"] if arguments.kwarg else found


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return ast.unparse(argument)
    return f"{ast.unparse(argument)} = {ast.unparse(default)}"


def _node(function: Any) -> ast.FunctionDef | ast.AsyncFunctionDef:
    return cast(ast.FunctionDef | ast.AsyncFunctionDef, _parsed(function))


def _parsed(value: Any) -> ast.stmt:
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


