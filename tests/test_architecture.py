"""The rules of docs/explanation/architecture.md: which module may import which, and what loads late.

Imports are read from the source with `ast`, wherever they stand: at the top of a module, inside a function, or under
`TYPE_CHECKING`. A type that is only named is a dependency too: whoever moves or renames it has to know.
`importlib.import_module` is not seen; the lazy packages (`coldstart_udfs`, `recommender`) name under `TYPE_CHECKING`
what they load by it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("coldstart_client", "coldstart_udfs", "recommender")

# From the ground up. A module imports from its own layer and from those above it in this list, never from those below.
# The two packages themselves are lazy doors; each stands where the highest of what it gives stands.
LAYERS = (
    ("coldstart_client.models", "coldstart_client.experiments", "coldstart_client.interviews",
     "coldstart_client.core", "coldstart_client.client", "coldstart_client"),
    ("coldstart_udfs.errors", "coldstart_udfs.files", "coldstart_udfs.locks", "coldstart_udfs.console",
     "coldstart_udfs.quoting"),
    ("coldstart_udfs.settings", "coldstart_udfs.made_from", "coldstart_udfs.profile", "coldstart_udfs.link",
     "coldstart_udfs.arrow_lists", "coldstart_udfs.tabular"),
    ("coldstart_udfs.encoder",),
    ("coldstart_udfs.text",),
    ("coldstart_udfs.sql", "coldstart_udfs"),
    ("coldstart_udfs.feast", "coldstart_udfs.dbt"),
    ("recommender.tracking",),
    ("recommender.data",),
    ("recommender.measure", "recommender.model"),
    ("recommender.tuning", "recommender.sql", "recommender"),
    ("recommender.pipeline",),
    ("recommender.evaluation",),
    ("recommender.serve",),
    ("recommender.cli",),
)

# Each of these costs from a tenth of a second to seven seconds. They are imported inside the functions that need them,
# except here: the offline store inherits from Feast's classes, and nothing but Feast imports these files.
LATE: dict[str, set[str]] = {
    "PIL": set(),
    "feast": {
        "coldstart_udfs/feast/offline/historical.py",
        "coldstart_udfs/feast/offline/monitoring.py",
        "coldstart_udfs/feast/offline/retrieval_job.py",
        "coldstart_udfs/feast/offline/store.py",
    },
    "lightfm": set(),
    "matplotlib": set(),
    "model2vec": set(),
    "onnxruntime": set(),
    "optuna": set(),
    "ray": set(),
    "rdflib": set(),
    "sentence_transformers": set(),
    "sklearn": set(),
    "tensorboard": set(),
    "torch": set(),
    "transformers": set(),
    "wandb": set(),
}

# Of the extra `serve`: nothing else needs them, so that all the rest works without it.
OF_THE_SERVICE = ("alembic", "fastapi", "limits", "prometheus_client", "psycopg", "sqlalchemy", "structlog", "uvicorn")

# Tests ask what the code does, not how fast it is on the machine of the day. These read a clock to wait for something.
CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "time", "time_ns"}
WAITING = {
    "tests/coldstart_udfs/encoder/test_bulk.py": "waits for another process to write its first part",
    "tests/coldstart_udfs/feast/test_feast_auth.py": "a token expires in ten minutes",
    "tests/recommender/evaluation/test_robustness.py": "loads until it has seen what two other processes save",
    "tests/support/commands.py": "waits for a server to answer",
}


class Import(NamedTuple):
    """One module of ours imports another."""

    importer: str
    imported: str
    where: str


@cache
def modules() -> dict[str, Path]:
    """Every module of the packages, by its dotted name."""
    found = {}
    for file in sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def place(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def named(node: ast.AST) -> list[str]:
    """The dotted names that an import statement asks for; none if it is another statement."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


@cache
def imports() -> tuple[Import, ...]:
    found = []
    for importer, file in modules().items():
        for node in ast.walk(parsed(file)):
            for name in named(node):
                imported = name if name in modules() else name.rpartition(".")[0]
                if imported in modules() and imported != importer:
                    found.append(Import(importer, imported, f"{place(file)}:{node.lineno}"))  # type: ignore[attr-defined]
    return tuple(dict.fromkeys(found))


def layer(module: str) -> int | None:
    """The layer of a module: that of the longest name in LAYERS that it is, or lies in."""
    places = {name: number for number, names in enumerate(LAYERS) for name in names}
    name = module
    while name not in places and "." in name:
        name = name.rpartition(".")[0]
        if name in PACKAGES:  # a new folder is not in a layer because its package is
            return None
    return places.get(name)


def circles() -> list[list[str]]:
    """Modules that import each other, directly or over others, each group sorted (Tarjan's components)."""
    edges: dict[str, set[str]] = {}
    for importer, imported, _ in imports():
        edges.setdefault(importer, set()).add(imported)
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        path.append(module)
        for other in sorted(edges.get(module, ())):
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in path:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            group = path[path.index(module) :]
            del path[path.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in modules():
        if module not in number:
            visit(module)
    return found


def at_module_level(node: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when a module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from at_module_level(child)


def own_tests() -> list[Path]:
    """Our tests; tests/feast_universal runs inside a checkout of Feast and imports Feast's tests."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    return [file for file in files if "feast_universal" not in file.parts and file != Path(__file__)]


def test_every_module_belongs_to_a_layer() -> None:
    homeless = [place(modules()[module]) for module in modules() if layer(module) is None]
    assert homeless == [], "give the folder of these files a place in LAYERS, above everything that it imports"


def test_modules_import_from_their_own_layer_and_from_lower_ones() -> None:
    wrong = [
        f"{where} imports {imported}, which lies higher ({LAYERS[there][0]}) than {importer} ({LAYERS[here][0]}); "
        f"move what is needed down to the layer of {LAYERS[here][0]}, or let the caller hand it over"
        for importer, imported, where in imports()
        if (here := layer(importer)) is not None and (there := layer(imported)) is not None and there > here
    ]
    assert wrong == [], "\n".join(wrong)


def test_the_features_know_nothing_of_the_recommender() -> None:
    """A rule of its own: it must hold even if somebody gets LAYERS wrong."""
    wrong = [
        f"{place(file)}:{node.lineno} imports {name}; coldstart_udfs works without a recommender: take a function or a "  # type: ignore[attr-defined]
        "value as an argument, and let recommender pass it"
        for module, file in modules().items()
        if module.split(".")[0] == "coldstart_udfs"
        for node in ast.walk(parsed(file))
        for name in named(node)
        if name.split(".")[0] == "recommender"
    ]
    assert wrong == [], "\n".join(wrong)


def test_the_client_is_installed_without_the_rest() -> None:
    """Whoever calls the service installs httpx and pydantic, and no recommender."""
    allowed = {*sys.stdlib_module_names, "coldstart_client", "httpx", "pydantic"}
    wrong = [
        f"{place(file)}:{node.lineno} imports {name}"  # type: ignore[attr-defined]
        for module, file in modules().items()
        if module.split(".")[0] == "coldstart_client"
        for node in ast.walk(parsed(file))
        for name in named(node)
        if name.split(".")[0] not in allowed
    ]
    assert wrong == [], "the client shares its models with recommender.serve, which may import them"


def test_no_modules_import_each_other_in_a_circle() -> None:
    told = []
    for group in circles():
        told.append(f"these {len(group)} modules form a circle; move what two of them share into a module below both:")
        told += [f"  {where} imports {imported}" for importer, imported, where in imports()
                 if importer in group and imported in group]  # fmt: skip
    assert told == [], "\n".join(told)


def test_imports_are_absolute() -> None:
    """The rules above read dotted names."""
    relative = [
        f"{place(file)}:{node.lineno}"
        for file in modules().values()
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == [], "write the whole name of the package"


@pytest.mark.parametrize("library", LATE)
def test_what_is_slow_to_import_is_imported_where_it_is_used(library: str) -> None:
    found = {
        place(file)
        for file in modules().values()
        for node in at_module_level(parsed(file))
        for name in named(node)
        if name.split(".")[0] == library
    }
    assert found - LATE[library] == set(), f"import {library} inside the functions that need it, or under TYPE_CHECKING"
    assert LATE[library] - found == set(), f"these no longer import {library} at the top; take them out of LATE"


def test_only_the_service_needs_what_it_is_built_with() -> None:
    wrong = [
        f"{place(file)}:{node.lineno} imports {name}"  # type: ignore[attr-defined]
        for module, file in modules().items()
        if not module.startswith("recommender.serve")
        for node in ast.walk(parsed(file))
        for name in named(node)
        if name.split(".")[0] in OF_THE_SERVICE
        or (name.startswith("recommender.serve") and node in set(at_module_level(parsed(file))))
    ]
    assert wrong == [], "move it to recommender/serve; the command line imports that inside its functions"


def test_no_test_imports_another_test_module() -> None:
    """Scripts that a test runs in another process count: they are read as text."""
    another = re.compile(r"(?:from|import) +tests\.(?!support\b)[\w.]+")
    wrong = [
        f"{place(file)}: {found}; move what both need to tests/support, fixtures to a conftest.py"
        for file in own_tests()
        for found in another.findall(file.read_text(encoding="utf-8"))
    ]
    assert wrong == [], "\n".join(wrong)


def test_no_test_measures_time() -> None:
    found = {}
    for file in own_tests():
        for node in ast.walk(parsed(file)):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            timed = called.startswith("time.") and called.removeprefix("time.") in CLOCKS
            direct = isinstance(node, ast.ImportFrom) and node.module == "time" and CLOCKS & {
                alias.name for alias in node.names
            }  # fmt: skip
            if timed or direct or "timeit" in [name.split(".")[0] for name in named(node)]:
                found[place(file)] = f"line {node.lineno}"  # type: ignore[attr-defined]
    wrong = {file: line for file, line in found.items() if file not in WAITING}
    assert wrong == {}, "a test of speed fails on a slow machine: assert what was done, or measure in benchmarks/"
    assert WAITING.keys() - found.keys() == set(), "these no longer read a clock; take them out of WAITING"
