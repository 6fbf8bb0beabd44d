"""The backends that run a model, with one interface: texts in, unit-length float32 vectors out.

Every backend gives a text the same vector whatever other texts it is encoded with, so each backend forms its own
batches.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.encoder.model_files import ModelFiles
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors

T = TypeVar("T")

# The file of the tokenizer in the folder of a derived model.
TOKENIZER = "tokenizer.json"

# Tokens of a batch, padding included. Small batches keep a layer's activations in the processor's cache: on two cores,
# 1,024 tokens were a third faster than 4,096. A GPU needs more.
_CPU_TOKENS = 1_024
_GPU_TOKENS = 32_768

# torch-fp16 on a GPU: every batch has this many rows, and lengths are rounded up to a multiple, so that the same
# kernels compute a text, with the same rounding, whatever the other texts are. On a CPU, one text a call does the same.
_HALF_ROWS, _HALF_STEP = 32, 32


@dataclass(frozen=True)
class Kind:
    """A backend before it is loaded.

    Attributes:
        label: the beginning of the fingerprint: engine and number type.
        recipe: how a derived model is made; part of the fingerprint. Empty if the backend runs the original model.
        runs_with: modules needed to run it.
        built_with: further modules needed to build its model.
        extra: the extra of the distribution that installs them.
        cached: whether a lookup in the vector cache is faster than computing a vector.
        least_cosine: the mean cosine of vectors to those of the original model under which a derived model is refused;
            None if its vectors lie in another space.
    """

    label: str
    recipe: str = ""
    runs_with: tuple[str, ...] = ()
    built_with: tuple[str, ...] = ()
    extra: str = ""
    cached: bool = True
    least_cosine: float | None = None

    @property
    def derived(self) -> bool:
        """Whether the backend runs a model that is built from the original."""
        return bool(self.recipe)


KINDS = {
    "torch": Kind("torch-float32"),
    "torch-fp16": Kind("torch-float16"),
    "onnx": Kind("onnx-float32", "torchscript-eager-1", ("onnxruntime",), ("onnx",), "fast",
                 least_cosine=0.9999),
    "onnx-int8": Kind("onnx-int8", "per-channel-reduced-1", ("onnxruntime",), ("onnx",), "fast",
                      least_cosine=0.98),
    "static": Kind("static-float32", "model2vec-pca-sif-1", (), ("model2vec", "skeletoken"), "static",
                   cached=False),
}  # fmt: skip


class Backend(Protocol):
    """A loaded model."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """(n, dimensions) unit-length rows for n texts, which already have their prompts.

        The row of a text without tokens is zero.
        """
        ...


def require(backend: str, *, build: bool = False) -> None:
    """Check that the modules of a backend are installed.

    Args:
        backend: a name of `KINDS`.
        build: also check the modules that build its model.

    Raises:
        ColdStartError: there is no such backend, or its extra is not installed.
    """
    if backend not in KINDS:
        raise ColdStartError(f"backend is {backend!r}; possible are {['auto', *KINDS]}")
    kind = KINDS[backend]
    missing = [name for name in (*kind.runs_with, *(kind.built_with if build else ())) if find_spec(name) is None]
    if missing:
        raise ColdStartError(
            f"the backend {backend!r} needs {' and '.join(missing)}, not installed here: "
            f"pip install 'feast-coldstart[{kind.extra}]'"
        )


def available_threads() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu() -> str | None:
    """The device of torch that is a GPU, "cuda" or "mps"; None if there is none."""
    # Importing torch takes seconds, so it is done only where there may be a GPU.
    if sys.platform == "linux" and not Path("/dev/nvidiactl").exists() and not Path("/dev/kfd").exists():
        return None
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


class TorchBackend:
    """sentence-transformers, in float32 or in float16."""

    def __init__(self, files: ModelFiles, device: str, threads: int, *, half: bool = False) -> None:
        """Load the model; takes seconds.

        Raises:
            ColdStartError: the model does not load on this device.
        """
        if half and files.modules[0].chat_template is not None:
            raise ColdStartError(f"'torch-fp16' does not fill in the chat template of {files.name}; take 'torch'")
        self._network = open_network(files, device)
        # A static model only adds: nothing is gained in half precision.
        self._half = half and not files.is_static
        if self._half:
            self._network.half()
        self._files, self._threads = files, threads
        self._on_cpu = self._network.device.type == "cpu"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """As `Backend.encode`."""
        lengths = np.minimum(self._files.token_counts(texts), self._files.max_tokens or 2**31)
        out = np.zeros((len(texts), self._files.dimensions), dtype=np.float32)
        with torch_threads(self._threads):
            if self._half:
                for rows in _same_shape(lengths, 1 if self._on_cpu else _HALF_ROWS):
                    out[rows] = self._run_padded([texts[row] for row in rows], int(lengths[rows].max()))
                return out
            for rows in pack(lengths, _CPU_TOKENS if self._on_cpu else _GPU_TOKENS):
                out[rows] = self._network.encode(
                    [texts[row] for row in rows], batch_size=len(rows), prompt="", normalize_embeddings=True,
                    convert_to_numpy=True, show_progress_bar=False,
                )  # fmt: skip
        return out

    def _run_padded(self, texts: list[str], longest: int) -> Vectors:
        import torch

        if self._on_cpu:
            rows, width = len(texts), longest
        else:
            rows, width = _HALF_ROWS, -(-longest // _HALF_STEP) * _HALF_STEP
        inputs = self._network.tokenizer(
            texts + [""] * (rows - len(texts)), padding="max_length", truncation=True, return_tensors="pt",
            max_length=min(width, self._files.max_tokens or width),
        )  # fmt: skip
        with torch.inference_mode():
            features = self._network({name: tensor.to(self._network.device) for name, tensor in inputs.items()})
            # Normalised again in float32, because a float16 row has unit length only approximately.
            pooled = features["sentence_embedding"][:, : self._files.dimensions].float()
            vectors = torch.nn.functional.normalize(pooled, dim=1)
        return np.asarray(vectors.cpu().numpy()[: len(texts)], dtype=np.float32)


def open_network(files: ModelFiles, device: str, **model_settings: Any) -> Any:
    """Load a model as a `SentenceTransformer` in float32, with the token limit and the width of `files`.

    Args:
        files: of the model.
        device: a device of torch, or "auto".
        model_settings: arguments for the network's `from_pretrained`.

    Raises:
        ColdStartError: the model does not load on this device, encodes no text, or is of a kind that is not supported.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # no warning in forked workers
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    files.check_prompts()
    try:
        network = SentenceTransformer(
            str(files.folder), device=None if device == "auto" else device, local_files_only=True,
            truncate_dim=files.truncate_dim, model_kwargs=model_settings,
        ).eval()  # fmt: skip
        # The weights may be saved in half precision, in which sentence-transformers would compute.
        network.float()
        if files.modules[0].kind == "Transformer":
            # With the padding on the left, the positions of a text's tokens would depend on the other texts.
            network.tokenizer.padding_side = "right"
            if files.max_tokens is not None:
                network.max_seq_length = files.max_tokens
        width = network.encode(["a"], prompt="", show_progress_bar=False).shape[1]
    except Exception as error:  # whatever is wrong with a folder that others made
        reason = f"{type(error).__name__}: {error}"
        if "trust_remote_code" in reason:
            reason = "the model needs code from its own folder, which is never run; take another model"
        raise ColdStartError(f"encoder {files.name} does not run on device {device!r}: {reason}") from error
    if width != files.dimensions:
        raise ColdStartError(
            f"encoder {files.name} makes vectors of {width} dimensions, its files say {files.dimensions}; "
            "save the model with sentence-transformers 5 or later"
        )
    return network


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use this many threads inside the block, and restore the number afterwards: it is a global setting."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Tokens(NamedTuple):
    """A text's tokens, and which of its segments each belongs to."""

    ids: list[int]
    types: list[int]


class OnnxBackend:
    """onnxruntime on the CPU.

    Batches run in parallel, with one thread each: for short texts most of a call is overhead, which more threads inside
    the call would not reduce. Dynamic int8 scales activations by the whole batch, so that a vector would depend on the
    other texts of the batch: it gets one text a call.
    """

    def __init__(self, files: ModelFiles, model: Path, threads: int, *, singly: bool) -> None:
        """Load an exported model and the tokenizer beside it."""
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._name, self._width, self._singly = files.name, files.dimensions, singly
        beside = model.with_name(TOKENIZER)
        self._tokenizer = Tokenizer.from_file(str(beside)) if beside.is_file() else files.open_tokenizer()
        self._pad_id = (self._tokenizer.padding or {"pad_id": 0})["pad_id"]
        self._tokenizer.no_padding()
        self._pool = _Pool(threads)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """As `Backend.encode`."""
        cut = [_Tokens(one.ids, one.type_ids) for one in self._tokenizer.encode_batch_fast(list(texts))]
        lengths = np.array([len(tokens.ids) for tokens in cut], dtype=np.int64)
        if self._singly:
            batches = list(pack(lengths, 1))
        else:
            # At least one batch for each thread.
            batches = list(pack(lengths, min(_CPU_TOKENS, -(-int(lengths.sum()) // self._pool.threads))))
        out = np.zeros((len(texts), self._width), dtype=np.float32)
        for rows, vectors in zip(batches, self._pool.map(lambda rows: self._run(rows, cut), batches), strict=True):
            out[rows] = vectors
        return out

    def _run(self, rows: NDArray[np.int64], texts: Sequence[_Tokens]) -> Vectors:
        width = max(len(texts[row].ids) for row in rows)
        ids = np.full((len(rows), width), self._pad_id, dtype=np.int64)
        mask, types = np.zeros_like(ids), np.zeros_like(ids)
        for place, row in enumerate(rows):
            tokens = texts[row]
            ids[place, : len(tokens.ids)] = tokens.ids
            types[place, : len(tokens.ids)] = tokens.types
            mask[place, : len(tokens.ids)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        try:
            result = self._session.run(None, {name: inputs[name] for name in self._inputs})[0]
        except Exception as error:  # onnxruntime's own errors
            raise ColdStartError(
                f"the derived model of {self._name} fails on texts of {width} tokens; take the backend 'torch': {error}"
            ) from error
        return np.asarray(result, dtype=np.float32)


class StaticBackend:
    """A model2vec distillation: the mean of stored token vectors; a zero vector for a text without known tokens."""

    def __init__(self, files: ModelFiles, folder: Path, threads: int) -> None:
        """Load token vectors and tokenizer."""
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self._vectors = load_file(folder / "model.safetensors")["embeddings"].astype(np.float32)
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(files.max_tokens or 2**31 - 1)
        self._unknown = self._tokenizer.token_to_id("[UNK]")
        self._pool = _Pool(threads)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """As `Backend.encode`."""
        parts = [texts[start : start + 256] for start in range(0, len(texts), 256)]
        return np.vstack(list(self._pool.map(self._run, parts)))

    def _run(self, texts: Sequence[str]) -> Vectors:
        out = np.zeros((len(texts), self._vectors.shape[1]), dtype=np.float32)
        for row, encoding in enumerate(self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)):
            ids = [token for token in encoding.ids if token != self._unknown]
            if ids:
                out[row] = self._vectors.take(ids, axis=0).sum(axis=0)
        # Sum and mean have the same direction, and rows are normalised.
        lengths = np.linalg.norm(out, axis=1, keepdims=True)
        np.divide(out, lengths, out=out, where=lengths > 0)
        return out


def pack(lengths: NDArray[np.int64], budget: int) -> Iterator[NDArray[np.int64]]:
    """Rows in batches of similar length, longest first, of at most `budget` tokens each, padding included.

    A row without tokens is in no batch.

    >>> [rows.tolist() for rows in pack(np.array([2, 9, 0, 3, 2]), 6)]
    [[1], [3, 0], [4]]
    """
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    start = 0
    while start < len(order):
        stop = start + max(1, budget // max(1, int(lengths[order[start]])))
        yield order[start:stop]
        start = stop


def _same_shape(lengths: NDArray[np.int64], rows: int) -> Iterator[NDArray[np.int64]]:
    """Rows of equal padded length, `rows` at a time."""
    padded = lengths if rows == 1 else -(-lengths // _HALF_STEP)
    for value in np.unique(padded[padded > 0]):
        members = np.flatnonzero(padded == value)
        for start in range(0, len(members), rows):
            yield members[start : start + rows]


class _Pool:
    """Threads, started when they are first needed, and again in a forked process."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._owner = -1
        self._executor: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[Any], T], items: Sequence[Any]) -> Iterator[T]:
        if len(items) < 2 or self.threads == 1:
            return map(function, items)
        if self._executor is None or self._owner != os.getpid():
            self._executor, self._owner = ThreadPoolExecutor(self.threads, "coldstart-encoder"), os.getpid()
        return self._executor.map(function, items)
