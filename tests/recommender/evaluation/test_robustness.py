"""A bundle under what happens to processes and disks: killed, raced, full. The vector cache's are in test_cache.py."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from recommender.model.bundle import read_manifest
from recommender.model.recommender import HybridRecommender
from tests.support.made_up_shop import every_score, shared, trained

ROOT = Path(__file__).resolve().parents[3]

# Loads two recommenders once; then, for each line, a process that saves them in turn over one path until it is killed.
SAVERS = """
import os, sys
from recommender.model import HybridRecommender
path, *bundles = sys.argv[1:]
models = [HybridRecommender.load(bundle) for bundle in bundles]
print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        while True:
            for number, model in enumerate(models):
                model.save(path, about={"number": number})
    print(pid, flush=True)
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two bundles of different recommenders."""
    folder = tmp_path_factory.mktemp("two")
    for number, model in enumerate((shared(), trained(seed=7))):
        model.save(folder / str(number), about={"number": number})
    return [folder / "0", folder / "1"]


@pytest.fixture(scope="module")
def answers(two: list[Path]) -> list[np.ndarray]:
    return [every_score(HybridRecommender.load(path)) for path in two]


class Savers:
    """Processes that save in a loop."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.running: list[int] = []
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def start(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("one\n")
        self._process.stdin.flush()
        self.running.append(int(self._line()))

    def kill(self) -> None:
        while self.running:
            os.kill(self.running.pop(), signal.SIGKILL)


@contextmanager
def saving(path: Path, two: list[Path]) -> Iterator[Savers]:
    command = [sys.executable, "-c", SAVERS, str(path), *map(str, two)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        savers = Savers(process)
        try:
            yield savers
        finally:
            savers.kill()
            process.kill()


def which(path: Path, answers: list[np.ndarray]) -> int:
    """Which of the two a bundle is; it must be one of them, and all of it."""
    loaded = HybridRecommender.load(path)
    scores = every_score(loaded)
    (number,) = [number for number, wanted in enumerate(answers) if np.array_equal(scores, wanted)]
    assert loaded.parameters.seed == (0, 7)[number]
    return number


@pytest.mark.parametrize("together", [1, 2])
def test_killed_at_any_moment_of_saving_a_bundle_is_one_of_the_two_and_whole(
    tmp_path: Path, two: list[Path], answers: list[np.ndarray], together: int
) -> None:
    path = tmp_path / "bundle"
    HybridRecommender.load(two[0]).save(path)
    moments, cut = random.Random(0), 0
    with saving(path, two) as savers:
        for _ in range(20):
            for _ in range(together):
                savers.start()
            time.sleep(moments.uniform(0.02, 0.08))
            savers.kill()
            assert which(path, answers) in (0, 1)
            # Some were in the middle of it, or this test would tell nothing.
            cut += len([file for file in path.iterdir() if file.suffix == ".npz"]) > 1
    assert cut
    shared().save(path)
    assert len(list(path.glob("*.npz"))) == 1


def test_who_loads_while_others_save_gets_one_of_the_two_and_whole(
    tmp_path: Path, two: list[Path], answers: list[np.ndarray]
) -> None:
    path = tmp_path / "bundle"
    HybridRecommender.load(two[0]).save(path)
    found, until = [], time.monotonic() + 60
    with saving(path, two) as savers:
        savers.start()
        savers.start()
        while (len(found) < 100 or set(found) != {0, 1}) and time.monotonic() < until:
            found.append(which(path, answers))
    assert set(found) == {0, 1}


FULL = """
import resource, sys
from recommender.model.bundle import BundleError
from recommender.model import HybridRecommender
model = HybridRecommender.load(sys.argv[1])
# A limit on the size of files meets a save as a full disk does: a write that fails in the middle.
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    model.save(sys.argv[2])
except BundleError as error:
    print(error)
"""


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_full_disk_is_a_named_error_and_the_old_bundle_is_as_it_was(
    tmp_path: Path, two: list[Path], answers: list[np.ndarray], share: float
) -> None:
    path = tmp_path / "bundle"
    HybridRecommender.load(two[0]).save(path, about={"note": "kept"})
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    room = str(int(read_manifest(two[1])["bytes"] * share))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL, str(two[1]), str(path), room], capture_output=True, text=True,
        check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{path} cannot be written" in done.stdout
    assert "the bundle that was there is as it was. Free some space" in done.stdout
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert which(path, answers) == 0
