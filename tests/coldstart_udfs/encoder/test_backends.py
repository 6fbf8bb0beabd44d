from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from coldstart_udfs import Encoder
from coldstart_udfs.encoder import backends, derived, manifests
from coldstart_udfs.errors import ColdStartError
from tests.support.commands import must, run

ALL = ["torch", "torch-fp16", "onnx", "onnx-int8", "static"]
TEXTS = [
    "red lamp", "SET OF 6 T-LIGHTS", "你好，世界", "🫖" * 5, "x " * 2_000, "naïve café", "", "  spaced   out ",
    *derived.sample_descriptions()[180:200],
]  # fmt: skip


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    return Encoder(backend="torch", cache=False).encode(TEXTS)


def test_torch_has_its_own_number_of_threads_back_after_an_encode() -> None:
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        vectors = Encoder(backend="torch", cache=False, threads=1).encode(["a lamp", "a spade"])
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        others = Encoder(backend="torch", cache=False, threads=2).encode(["a lamp", "a spade"])
        np.testing.assert_allclose(others, vectors, atol=1e-6)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of one test's own, with the int8 model of this session in it."""
    Encoder(backend="onnx-int8", cache=False).encode(["builds the model"])
    models = tmp_path / "coldstart" / "models"
    shutil.copytree(manifests.models_folder(), models)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert platformdirs.user_cache_path("coldstart") == tmp_path / "coldstart"
    return models


@pytest.mark.parametrize("backend", ALL)
def test_a_text_has_one_vector_whatever_is_encoded_beside_it(backend: str) -> None:
    encoder = Encoder(backend=backend, cache=False)
    together = encoder.encode(TEXTS)
    alone = np.vstack([encoder.encode([text]) for text in TEXTS])
    backwards = encoder.encode(TEXTS[::-1])[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together, backwards, atol=1e-6)


@pytest.mark.parametrize(("backend", "mean", "least"), [("onnx", 0.999999, 0.99999), ("onnx-int8", 0.98, 0.95)])
def test_derived_models_stay_near_their_original(
    backend: str, mean: float, least: float, reference: np.ndarray
) -> None:
    cosines = (Encoder(backend=backend, cache=False).encode(TEXTS) * reference).sum(axis=1)
    assert cosines.mean() >= mean
    assert cosines.min() >= least


def test_static_vectors_are_model2vecs_own() -> None:
    from model2vec import StaticModel
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    encoder = Encoder(backend="static", cache=False)
    texts = [text for text in TEXTS if len(text) < 1_000]
    ours = encoder.encode(texts)
    folder = manifests.models_folder() / encoder.fingerprint
    theirs = StaticModel(
        vectors=load_file(folder / "model.safetensors")["embeddings"],
        tokenizer=Tokenizer.from_file(str(folder / "tokenizer.json")), normalize=True,
    )  # fmt: skip
    np.testing.assert_allclose(ours, theirs.encode(texts, use_multiprocessing=False), atol=1e-5)


def test_a_text_of_unknown_tokens_is_a_zero_vector_under_static() -> None:
    known, unknown = Encoder(backend="static", cache=False).encode(["red lamp", "🫖"])
    assert np.linalg.norm(known) == pytest.approx(1)
    assert not unknown.any()


def test_fingerprints_name_the_engine_and_differ() -> None:
    fingerprints = {backend: Encoder(backend=backend).fingerprint for backend in ALL}
    assert len(set(fingerprints.values())) == len(ALL)
    assert fingerprints["onnx-int8"].startswith("onnx-int8-384-")


def test_auto_is_the_fastest_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Encoder(device="cpu").backend == "onnx-int8"
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    assert Encoder(device="cpu").backend == "torch"


def test_a_backend_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(ColdStartError, match=r"needs onnxruntime.*pip install 'feast-coldstart\[fast\]'"):
        Encoder(backend="onnx-int8")


def test_a_gpu_is_refused_for_onnx() -> None:
    with pytest.raises(ColdStartError, match="'onnx' runs on the processor, not on 'cuda'"):
        Encoder(backend="onnx", device="cuda")


def test_a_derived_model_that_strays_is_refused_and_passed_over_by_auto(own_models: Path) -> None:
    fingerprint = Encoder(backend="onnx-int8").fingerprint
    path = own_models / fingerprint / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cosine_mean": 0.97}))
    with pytest.raises(ColdStartError, match=r"mean cosine of 0\.970.*less than 0\.98"):
        Encoder(backend="onnx-int8", cache=False).encode(["red lamp"])
    with pytest.warns(RuntimeWarning, match="'onnx-int8' is skipped"):
        assert Encoder(device="cpu").backend == "onnx"


def test_a_damaged_derived_model_is_named_and_built_again_on_request(own_models: Path) -> None:
    weights = own_models / Encoder(backend="onnx-int8").fingerprint / "model.onnx"
    flipped = bytearray(weights.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    weights.write_bytes(flipped)
    with pytest.raises(ColdStartError, match=r"model\.onnx has sha256 .*encoder build --backend onnx-int8 --again"):
        Encoder(backend="onnx-int8", cache=False).encode(["red lamp"])
    built = must("coldstart", "encoder", "build", "--backend", "onnx-int8", "--again", cwd=own_models)
    assert "cosine 0.99" in built
    assert Encoder(backend="onnx-int8", cache=False).encode(["red lamp"]).shape == (1, 384)
    assert "onnx-int8" in must("coldstart", "encoder", "list", cwd=own_models)
    assert not list(own_models.glob(".unfinished-*"))


def test_there_is_nothing_to_build_for_torch(tmp_path: Path) -> None:
    done = run("coldstart", "encoder", "build", "--backend", "torch", cwd=tmp_path)
    assert done.returncode == 2
    assert "possible are ['onnx', 'onnx-int8', 'static']" in done.stderr


def test_an_encoder_that_was_used_works_in_a_forked_process() -> None:
    code = """
import os
from coldstart_udfs import Encoder
encoder = Encoder(backend="onnx-int8", cache=False, threads=2)
encoder.encode(["red lamp", "blue lamp"])
if os.fork() == 0:
    print(encoder.encode(["red lamp", "blue lamp"]).shape, flush=True)
    os._exit(0)
print(os.wait()[1])
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60, check=True,
        env=os.environ,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["(2, 384)", "0"]
