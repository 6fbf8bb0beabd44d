"""Encoding for a user without a home, or with one that cannot be written, as in a container."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldstart_udfs import Encoder
from coldstart_udfs.encoder import manifests, places
from coldstart_udfs.encoder.cache.salt import salt, salt_id
from coldstart_udfs.encoder.cache.store import default_path, open_cache
from tests.support.commands import ROOT


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A user without a home; the temporary directory."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))  # torch would set it for good
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(places, "_told", set())
    salt.cache_clear()
    salt_id.cache_clear()
    yield tmp_path
    salt.cache_clear()
    salt_id.cache_clear()


def warned(told: list[warnings.WarningMessage]) -> list[str]:
    return [str(one.message) for one in told]


def test_without_a_home_vectors_and_models_are_kept_in_the_temporary_directory(homeless: Path) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cache = open_cache(True, "stub", 4)
        assert manifests.models_folder() == places.own_folder() / "models"
    assert cache is not None
    assert cache.path == homeless / f"coldstart-{os.getuid()}" / "embeddings.sqlite"
    assert (homeless / f"coldstart-{os.getuid()}").stat().st_mode & 0o777 == 0o700
    (message,) = warned(told)
    assert message.startswith("this user has no home directory: vectors and derived models are kept in ")
    assert "XDG_CACHE_HOME" in message


def test_with_no_place_at_all_encoding_works_uncached_with_one_warning(homeless: Path) -> None:
    # Another user's folder, or a link to one, stands in the place of ours.
    (homeless / "elsewhere").mkdir()
    (homeless / f"coldstart-{os.getuid()}").symlink_to(homeless / "elsewhere")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", RuntimeWarning)
        encoder = Encoder(device="cpu")
        assert encoder.backend == "torch"
        assert encoder.encode(["a red lamp"]).shape == (1, 384)
        assert encoder.encode(["a red lamp"]).shape == (1, 384)
    assert encoder.stats.encoded == 2
    (message,) = [text for text in warned(told) if "kept" in text]
    assert "no vector or derived model is kept on this machine" in message
    assert list((homeless / "elsewhere").iterdir()) == []
    assert not default_path().exists()


def test_models_in_a_cache_directory_that_cannot_be_written_are_used(
    monkeypatch: pytest.MonkeyPatch, homeless: Path
) -> None:
    home = homeless / "home"
    built = home / "coldstart" / "models" / "x"
    built.mkdir(parents=True)
    (built / manifests.MANIFEST).write_text("{}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setattr(places.os, "access", lambda path, mode: Path(path) != home / "coldstart")
    assert manifests.models_folder() == built.parent
    with pytest.warns(RuntimeWarning, match="home/coldstart cannot be written: vectors and derived models are kept in"):
        assert default_path().parent == homeless / f"coldstart-{os.getuid()}"


def test_models_that_root_builds_into_an_image_can_be_read_by_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def make(folder: Path) -> None:
        (folder / manifests.MANIFEST).write_text(json.dumps(dict.fromkeys(manifests.Manifest.__dataclass_fields__)))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = manifests.models_folder() / "onnx-float32-384-0"
    before = os.umask(0o022)
    try:
        manifests.build_once(built, make)
    finally:
        os.umask(before)
    for folder in (built, built.parent, built.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user")
def test_a_uid_without_a_passwd_entry_encodes() -> None:
    code = "from coldstart_udfs import Encoder; print(Encoder(backend='torch').encode(['a red lamp']).shape)"
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        left_out = ("HOME", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR")
        environment = {name: value for name, value in os.environ.items() if name not in left_out}
        done = subprocess.run(
            ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", sys.executable, "-c", code], cwd="/",
            env={**environment, "TMPDIR": folder, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout == "(1, 384)\n", done.stderr
        assert done.stderr.count("Warning") == 1
        assert (Path(folder) / "coldstart-54321" / "embeddings.sqlite").stat().st_uid == 54321
