"""Feast's universal suite for offline stores, with its `duckdb` store and with ours: what the first passes, ours must.

Usage: python compare.py CHECKOUT, a checkout of Feast. Runs its tests against the Feast that is installed, so only the
folder of tests is taken from it: beside `sdk/python/feast`, they would import that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
SUITE = "tests/integration/offline_store"
STOCK = "tests.universal.feature_repos.duckdb_repo_configuration"
OURS = "coldstart_repo_configuration"


def run(folder: Path, configurations: str) -> dict[str, str]:
    """Outcome of each test that this configuration module's stores apply to, by name."""
    report = folder / f"{configurations}.xml"
    environment = {
        **os.environ,
        "FULL_REPO_CONFIGS_MODULE": configurations,
        "FEAST_IS_LOCAL_TEST": "True",  # no cloud
        "FEAST_USAGE": "False",
        "IS_TEST": "True",
        "PYTHONPATH": str(HERE),
        "HOME": str(folder),  # DuckDB's extensions, and whatever else the tests leave
        "TMPDIR": str(folder),
    }
    extension = "from duckdb_extensions import import_extension; import_extension('delta')"
    subprocess.run([sys.executable, "-c", extension], env=environment, check=True)
    # Both stores are called DuckDB…; other tests of the folder are pinned to another store.
    command = [
        sys.executable, "-m", "pytest", "-q", "--integration", SUITE, "-k", "DuckDB", "-W", "ignore", "-p",
        "no:cacheprovider", "--durations=0", "--durations-min=60", "--junit-xml", str(report),
    ]  # fmt: skip
    finished = subprocess.run(command, cwd=folder, env=environment, check=False)
    if finished.returncode not in (0, 1):
        sys.exit(f"error: pytest ended with status {finished.returncode}, before it had run the tests")
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        bad = [kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None]
        name = f"{case.get('classname')}::{case.get('name')}".removeprefix("tests.integration.offline_store.")
        outcomes[name.replace("ColdStart", "")] = bad[0] if bad else "passed"
    return outcomes


def main(arguments: list[str]) -> int:
    checkout = Path(arguments[0] if arguments else "").resolve()
    tests = checkout / "sdk" / "python" / "tests"
    if not arguments or not (checkout / "sdk" / "python" / SUITE).is_dir():
        print(f"error: {checkout} is no checkout of Feast: it has no sdk/python/{SUITE}; "
              "make test-feast-universal SUITE=path")  # fmt: skip
        return 2
    with tempfile.TemporaryDirectory(prefix="feast-universal-") as name:
        folder = Path(name)
        shutil.copytree(tests, folder / "tests")
        shutil.copy(tests.parent / "pytest.ini", folder)
        stock, ours = run(folder, STOCK), run(folder, OURS)

    print(f"\nfeast {version('feast')}, duckdb {version('duckdb')}, tests of {checkout}\n")
    print(f"{'':9}{'stock':>7}{'ours':>7}")
    for outcome in ("passed", "failure", "error", "skipped"):
        counts = [list(run.values()).count(outcome) for run in (stock, ours)]
        print(f"{outcome:9}{counts[0]:7}{counts[1]:7}")
    lost = [test for test, outcome in stock.items() if outcome == "passed" and ours.get(test) != "passed"]
    gained = [test for test, outcome in ours.items() if outcome == "passed" and stock.get(test) != "passed"]
    for title, tests_of in (("stock passes, ours does not", lost), ("ours passes, stock does not", gained)):
        for test in tests_of:
            print(f"{title}: {test}")
    if not any(outcome == "passed" for outcome in stock.values()):
        print("error: the stock store passed nothing; does this checkout fit the installed Feast?")
        return 1
    print("" if lost else "All that the stock store passes, ours passes.")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
