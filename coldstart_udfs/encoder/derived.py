"""Derived models: exported, quantised or distilled from another model once on a machine, each with a manifest."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import numpy as np

from coldstart_udfs.console import Report
from coldstart_udfs.encoder.backends import (
    KINDS,
    TOKENIZER,
    Backend,
    OnnxBackend,
    StaticBackend,
    TorchBackend,
    available_threads,
    open_network,
    require,
)
from coldstart_udfs.encoder.manifests import MANIFEST, Manifest, build_once, models_folder, read_manifest
from coldstart_udfs.encoder.model_files import ModelFiles, sha256
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text
from coldstart_udfs.profile import Vectors

# A derived model is also compared on texts of more words than its token limit, or than this.
_LONG = 512

_WEIGHTS = {"onnx": "model.onnx", "onnx-int8": "model.onnx", "static": "model.safetensors"}


def fingerprint_of(files: ModelFiles, backend: str) -> str:
    """The identity of a model under a backend: see `Encoder.fingerprint`."""
    kind = KINDS[backend]
    described = {**files.identity, "recipe": kind.recipe}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return f"{kind.label}-{files.dimensions}-{digest[:16]}"


def load(files: ModelFiles, backend: str, device: str, threads: int, report: Report) -> Backend:
    """Open a model under a backend; a derived model that does not exist yet is built.

    Raises:
        ColdStartError: the backend is not installed or does not run on the device, or the derived model is damaged or
            too far from its original.
    """
    require(backend)
    check_derivable(files, backend)
    if not KINDS[backend].derived:
        return TorchBackend(files, device, threads, half=backend == "torch-fp16")
    folder = models_folder() / fingerprint_of(files, backend)
    if not (folder / MANIFEST).exists():
        build(files, backend, report=report)
    manifest = read_manifest(folder)
    _check_quality(manifest)
    found = sha256(folder / _WEIGHTS[backend])
    if found != manifest.sha256:
        raise ColdStartError(
            f"{folder / _WEIGHTS[backend]} has sha256 {found}, its manifest says {manifest.sha256}; build it again: "
            f"{_build_command(files, backend)}"
        )
    return _open(files, backend, folder, threads)


def build(files: ModelFiles, backend: str, *, report: Report, again: bool = False) -> Manifest:
    """Build a derived model in a scratch folder, compare it with the original, and move it into place.

    Args:
        files: files of the original.
        backend: a backend with a derived model.
        report: called when a stage begins.
        again: build it even if it exists.

    Raises:
        ColdStartError: the backend has no derived model, its extra is not installed, the folder cannot be written, or
            the result is too far from the original. Of such a result only the manifest is kept, so that it is not
            built again.
    """
    require(backend, build=True)
    if not KINDS[backend].derived:
        raise ColdStartError(
            f"the backend {backend!r} runs the original model, there is nothing to build; possible are {list(_WEIGHTS)}"
        )
    check_derivable(files, backend)
    folder = models_folder() / fingerprint_of(files, backend)
    try:
        manifest = build_once(folder, lambda scratch: _build(files, backend, scratch, report), again=again)
    except OSError as error:
        raise ColdStartError(f"the model for {backend!r} cannot be built in {folder.parent}: {error}") from error
    _check_quality(manifest)
    return manifest


def check_derivable(files: ModelFiles, backend: str) -> None:
    """Check that a backend's model can be derived from a model of this kind.

    Raises:
        ColdStartError: it cannot.
    """
    if not KINDS[backend].derived:
        return
    if files.is_static:
        raise ColdStartError(
            f"{files.name} is a static model already, so {backend!r} cannot be derived from it; take 'torch' or 'auto'"
        )
    if files.modules[0].chat_template is not None:
        raise ColdStartError(
            f"the texts of {files.name} go through its chat template, which {backend!r} does not fill in; take "
            "'torch', or remove the template from the folder"
        )
    others = [one.kind for one in files.modules if one.kind not in ("Transformer", "Pooling", "Normalize")]
    if backend == "static" and (others or files.truncate_dim):
        what = f"the module {others[0]}" if others else f"truncate_dim {files.truncate_dim}"
        raise ColdStartError(f"'static' cannot be derived from {files.name}, which has {what}; take 'onnx' or 'torch'")


def sample_descriptions() -> list[str]:
    """The fixed sample for comparing models with their originals: texts of Online Retail (CC BY 4.0)."""
    text = (resources("coldstart_udfs.encoder") / "sample_descriptions.json").read_text(encoding="utf-8")
    return [str(description) for description in json.loads(text)["texts"]]


def _build(files: ModelFiles, backend: str, folder: Path, report: Report) -> None:
    report(f"building {backend}: from {files.name}", 0, 2)
    try:
        with _quiet():
            if backend == "static":
                _distil(files, folder)
            else:
                _export(files, folder / _WEIGHTS[backend], quantise=backend == "onnx-int8")
    except (ColdStartError, OSError):
        raise
    except Exception as error:  # whatever an exporter says of a network that it does not know
        raise ColdStartError(
            f"{backend!r} cannot be derived from {files.name}; take 'torch': {type(error).__name__}: {error}"
        ) from error
    report(f"building {backend}: comparing with the original", 1, 2)
    texts = [files.prompts["document"] + text for text in sample_descriptions()]
    threads = available_threads()
    original = TorchBackend(files, "cpu", threads)
    expected = original.encode(texts)
    derived = _open(files, backend, folder, threads)
    derived.encode(texts[:8])
    began = time.perf_counter()
    vectors = derived.encode(texts)
    seconds = time.perf_counter() - began
    cosines = None if KINDS[backend].least_cosine is None else (vectors * expected).sum(axis=1)
    manifest = Manifest(
        fingerprint=fingerprint_of(files, backend), model=files.name, source=fingerprint_of(files, "torch"),
        backend=backend, dimensions=vectors.shape[1], max_tokens=files.max_tokens,
        prompts={str(name): prefix for name, prefix in files.prompts.items()},
        bytes=sum(path.stat().st_size for path in folder.iterdir()), sha256=sha256(folder / _WEIGHTS[backend]),
        cosine_mean=None if cosines is None else round(float(cosines.mean()), 6),
        cosine_min=None if cosines is None else round(float(cosines.min()), 6),
        similarity_correlation=round(similarity_correlation(vectors, expected), 6),
        texts_per_second=round(len(texts) / seconds, 1), built=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={name: version(name) for name in ("torch", "transformers", "sentence-transformers",
                                                   *KINDS[backend].runs_with, *KINDS[backend].built_with)},
        cosine_long=None if cosines is None else _cosine_of_long_texts(files, derived, original),
    )  # fmt: skip
    if _shortcoming(manifest):
        for path in folder.iterdir():
            path.unlink()
    write_text(folder / MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")


def _cosine_of_long_texts(files: ModelFiles, derived: Backend, original: Backend) -> float:
    """The smaller cosine to the original of two texts past the token limit."""
    words = " ".join(sample_descriptions()).split()
    limit = min(files.max_tokens or _LONG, _LONG)
    texts = [" ".join(words[: limit + 8]), " ".join(words[8 : 2 * limit])]
    return round(float((derived.encode(texts) * original.encode(texts)).sum(axis=1).min()), 6)


def _export(files: ModelFiles, path: Path, *, quantise: bool) -> None:
    import torch

    # Eager attention is exported as plain matrix products, which onnxruntime fuses when it loads the model.
    network = open_network(files, "cpu", attn_implementation="eager")
    example = network.tokenizer(["a red lamp", "a"], padding=True, return_tensors="pt")
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in example]

    class Whole(torch.nn.Module):
        """All modules of the pipeline, pooling and normalisation included, from tensors to one tensor."""

        def __init__(self) -> None:
            super().__init__()
            self.modules_in_order = network

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            features: dict[str, Any] = dict(zip(names, inputs, strict=True))
            for module in self.modules_in_order:
                features = module(features)
            return torch.nn.functional.normalize(features["sentence_embedding"][:, : files.dimensions], dim=1)

    files.open_tokenizer().save(str(path.with_name(TOKENIZER)))
    exported = path.with_suffix(".float32") if quantise else path
    # onnxruntime's fusion does not support the graph of the newer exporter (1.32, torch 2.13).
    torch.onnx.export(
        Whole(), tuple(example[name] for name in names), str(exported), dynamo=False, opset_version=17,
        input_names=names, output_names=["embedding"],
        dynamic_axes={**{name: {0: "texts", 1: "tokens"} for name in names}, "embedding": {0: "texts"}},
    )  # fmt: skip
    if quantise:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        # Seven bits a weight: with eight, CPUs without VNNI saturate, and vectors would differ between machines.
        quantize_dynamic(exported, path, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
        exported.unlink()


def _distil(files: ModelFiles, folder: Path) -> None:
    from model2vec.distill import distill_from_model
    from safetensors.numpy import save_file
    from transformers import AutoModel, AutoTokenizer

    network = files.modules[0].folder
    # PCA at full width centres the token vectors; similarities are then much closer to those of the original.
    model = distill_from_model(
        AutoModel.from_pretrained(network, local_files_only=True),
        AutoTokenizer.from_pretrained(network, local_files_only=True),
        pca_dims="auto", quantize_to="float32", device="cpu",
    )  # fmt: skip
    vectors = model.embedding if model.token_mapping is None else model.embedding[model.token_mapping]
    if vectors.shape[1] != files.dimensions:
        raise ColdStartError(
            f"'static' makes vectors of {vectors.shape[1]} dimensions of {files.name}, which has {files.dimensions}; "
            "take 'onnx' or 'torch'"
        )
    weights = 1.0 if model.weights is None else model.weights[:, None]
    save_file({"embeddings": np.asarray(vectors * weights, dtype=np.float32)}, folder / _WEIGHTS["static"])
    # The original's tokenizer may pad to a fixed length, and model2vec 0.8 counts padding as words.
    model.tokenizer.no_padding()
    model.tokenizer.no_truncation()
    model.tokenizer.save(str(folder / TOKENIZER))


def _open(files: ModelFiles, backend: str, folder: Path, threads: int) -> Backend:
    if backend == "static":
        return StaticBackend(files, folder, threads)
    return OnnxBackend(files, folder / _WEIGHTS[backend], threads, singly=backend == "onnx-int8")


def _check_quality(manifest: Manifest) -> None:
    shortcoming = _shortcoming(manifest)
    if shortcoming:
        other = "'onnx' or 'torch'" if manifest.backend == "onnx-int8" else "'torch'"
        raise ColdStartError(
            f"{manifest.backend} of {manifest.model} has {shortcoming}, and is not used; take the backend {other}"
        )


def _shortcoming(manifest: Manifest) -> str:
    """In what a derived model is too far from its original; "" if it is near enough."""
    least = KINDS[manifest.backend].least_cosine
    if least is None or manifest.cosine_mean is None:
        return ""
    if not manifest.cosine_mean >= least:
        return f"a mean cosine of {manifest.cosine_mean:.3f} to its original, less than {least}"
    # A single text may stray three times as far as the mean of many.
    least_long = 1 - 3 * (1 - least)
    if manifest.cosine_long is not None and not manifest.cosine_long >= least_long:
        long = f"a cosine of {manifest.cosine_long:.3f} to its original for a text longer than its token limit"
        return f"{long}, less than {least_long:.4g}"
    return ""


def _build_command(files: ModelFiles, backend: str) -> str:
    model = f" --model {files.model}" if files.model else ""
    return f"`coldstart encoder build --backend {backend}{model} --again`"


def similarity_correlation(vectors: Vectors, expected: Vectors) -> float:
    """Pearson correlation between the similarities of all pairs of n texts under two encoders; rows of length 1."""
    pairs = np.triu_indices(len(vectors), 1)
    return float(np.corrcoef((vectors @ vectors.T)[pairs], (expected @ expected.T)[pairs])[0, 1])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warnings and output of exporters; errors are still raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
