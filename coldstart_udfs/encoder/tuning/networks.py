"""The two kinds of model that are tuned: the top layers of a network, and a table of token vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.encoder.backends import TOKENIZER, open_network, pack
from coldstart_udfs.encoder.derived import build, fingerprint_of
from coldstart_udfs.encoder.manifests import MANIFEST, models_folder
from coldstart_udfs.encoder.model_files import ModelFiles
from coldstart_udfs.encoder.tuning.adapters import add_adapters, merge_adapters
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors, has_text

if TYPE_CHECKING:
    import torch

# Tokens of the texts whose states are kept in memory: 1 GB at 384 numbers of two bytes each. Those of further texts are
# computed each time.
_KEPT_TOKENS = 1_400_000
# Tokens whose gradients are kept at once, padding included: about 1 GB.
CHUNK_TOKENS = 12_000
# Tokens that pass the layers at once: little padding, and activations stay in the processor's cache.
_PASS_TOKENS = 1_024
# The mean cosine of the divided network's vectors to those of the whole one, under which it is not tuned.
_LEAST_COSINE = 0.999

Rows = NDArray[np.int64]


class Tunable(Protocol):
    """A model whose parameters are learned, with the texts that it encodes.

    Attributes:
        lengths: (n,), number of tokens of each text; 0 for a blank one.
    """

    lengths: Rows

    def parameters(self) -> dict[str, torch.Tensor]:
        """What is learned, by name."""
        ...

    def vectors(self, rows: Rows) -> torch.Tensor:
        """(k, d) unit rows of these texts, with gradients where they are asked for."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model as sentence-transformers does."""
        ...


def open_tunable(files: ModelFiles, texts: Sequence[str], *, static: bool, layers: int, adapters: int) -> Tunable:
    """Load a model with its texts.

    Args:
        files: of the model.
        texts: n descriptions, to which the model's prompt is added here.
        static: tune the table of token vectors of the backend `static`, or of a model that is one.
        layers: number of top layers that learn.
        adapters: their rank; 0: the layers themselves learn.

    Raises:
        ColdStartError: the model is of a kind that cannot be tuned, or has fewer layers.
    """
    prompted = [files.prompts["document"] + text for text in texts]
    blank = np.array([not has_text(text) for text in texts], dtype=bool)
    if static or files.is_static:
        return TokenTable(files, prompted, blank)
    return TopLayers(files, prompted, blank, layers, adapters)


class TopLayers:
    """The top layers of a transformer; the states that enter them are computed once.

    Args:
        files: of the model.
        texts: n texts with their prompts.
        blank: (n,), which are nothing but a prompt.
        layers: number of layers that learn.
        adapters: see `add_adapters`; 0: none.
    """

    def __init__(
        self, files: ModelFiles, texts: Sequence[str], blank: NDArray[np.bool_], layers: int, adapters: int
    ) -> None:

        if files.modules[0].kind != "Transformer":
            raise ColdStartError(
                f"{files.name} begins with {files.modules[0].kind}; a Transformer or a StaticEmbedding can be tuned"
            )
        self._files, self._network = files, open_network(files, "cpu")
        self._network.eval()  # no dropout
        owner, self._name, self._layers = _layers_of(self._network, files)
        if not 1 <= layers <= len(self._layers):
            raise ColdStartError(f"layers is {layers}; {files.name} has {len(self._layers)} layers, give 1 to all")
        self._owner, self._top = owner, len(self._layers) - layers
        tokenizer = self._network.tokenizer
        self._inputs = [
            tokenizer([text], truncation=True, max_length=files.max_tokens or 2**31 - 1) for text in texts
        ]
        self.lengths = np.array([len(one["input_ids"][0]) for one in self._inputs], dtype=np.int64)
        self.lengths[blank] = 0
        for parameter in self._network.parameters():
            parameter.requires_grad_(False)
        self._states: dict[int, torch.Tensor] = {}
        self._remember()
        tuned = self._layers[self._top :]
        if adapters:
            add_adapters(tuned, adapters)
        else:
            for parameter in tuned.parameters():
                parameter.requires_grad_(True)
        self._check()

    def parameters(self) -> dict[str, torch.Tensor]:
        """As `Tunable.parameters`."""
        return {name: value for name, value in self._network.named_parameters() if value.requires_grad}

    def vectors(self, rows: Rows) -> torch.Tensor:
        """As `Tunable.vectors`."""
        import torch

        parts = list(pack(self.lengths[rows], _PASS_TOKENS))
        places = torch.from_numpy(np.argsort(np.concatenate(parts)))
        return torch.cat([self._pass(rows[part]) for part in parts])[places]

    def _pass(self, rows: Rows) -> torch.Tensor:
        import torch

        known = [self._states.get(int(row)) for row in rows]
        lost = rows[[state is None for state in known]]
        computed = iter(self._below(lost) if len(lost) else [])
        states = [next(computed) if state is None else state for state in known]
        padded = torch.zeros(len(rows), int(self.lengths[rows].max()), states[0].shape[1])
        for place, state in enumerate(states):
            padded[place, : len(state)] = state
        with self._only_the_top(padded):
            features = self._network(self._padded(rows))
        return _unit(features["sentence_embedding"], self._files.dimensions)

    def save(self, folder: Path) -> None:
        """As `Tunable.save`."""
        merge_adapters(self._layers)
        # Prompts that the family's name tells are not in the parent's folder, and the new folder has another name.
        self._network.prompts = {str(name): text for name, text in self._files.prompts.items()}
        self._network.save_pretrained(str(folder), create_model_card=False)

    def _remember(self) -> None:
        """Compute the states that enter the top layers, of as many texts as memory is meant for."""
        order = np.argsort(self.lengths, kind="stable")
        kept = order[np.cumsum(self.lengths[order]) <= _KEPT_TOKENS]
        for batch in pack(self.lengths[kept], _PASS_TOKENS):
            for row, state in zip(kept[batch], self._below(kept[batch]), strict=True):
                self._states[int(row)] = state.half()

    def _below(self, rows: Rows) -> list[torch.Tensor]:
        """What enters the top layers, for each text (tokens, width)."""
        import torch

        found: list[torch.Tensor] = []

        def take(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            found.append(_hidden(given, named))
            raise _ReachedError

        handle = self._layers[self._top].register_forward_pre_hook(take, with_kwargs=True)
        try:
            with torch.no_grad():
                self._network(self._padded(rows))
        except _ReachedError:
            pass
        finally:
            handle.remove()
        return [state[: self.lengths[row]].clone() for state, row in zip(found[0], rows, strict=True)]

    @contextmanager
    def _only_the_top(self, states: torch.Tensor) -> Iterator[None]:
        """Inside the block, the network begins with these states in place of those of its lower layers."""

        def give(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if given:
                return (states, *given[1:]), named
            return given, {**named, "hidden_states": states}

        top = self._layers[self._top :]
        handle = top[0].register_forward_pre_hook(give, with_kwargs=True)
        setattr(self._owner, self._name, top)
        try:
            yield
        finally:
            setattr(self._owner, self._name, self._layers)
            handle.remove()

    def _padded(self, rows: Rows) -> dict[str, torch.Tensor]:
        inputs = {name: [self._inputs[row][name][0] for row in rows] for name in self._inputs[rows[0]]}
        return dict(self._network.tokenizer.pad(inputs, return_tensors="pt"))

    def _check(self) -> None:
        """Compare with the whole network on a few texts of different lengths."""
        import torch

        rows = np.flatnonzero(self.lengths)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, 16).astype(np.int64))]
        with torch.no_grad():
            whole = _unit(self._network(self._padded(rows))["sentence_embedding"], self._files.dimensions)
            try:
                cosine = float((self.vectors(rows) * whole).sum(dim=1).mean())
            except Exception as error:  # whatever an architecture says of states that it does not expect
                raise _undivided(self._files, f"{type(error).__name__}: {error}") from error
        if not cosine >= _LEAST_COSINE:
            raise _undivided(self._files, f"its upper layers alone give vectors with a cosine of {cosine:.3f}")


class TokenTable:
    """A table of token vectors, of which a text is the mean.

    Args:
        files: of a model that is a table, or of one from which the backend `static` is derived, and then built.
        texts: n texts with their prompts.
        blank: (n,), which are nothing but a prompt.
    """

    def __init__(self, files: ModelFiles, texts: Sequence[str], blank: NDArray[np.bool_]) -> None:
        import torch
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        if files.is_static:
            folder = files.modules[0].folder
        else:
            folder = models_folder() / fingerprint_of(files, "static")
            if not (folder / MANIFEST).exists():
                build(files, "static", report=lambda stage, done, total: None)
        tensors = load_file(folder / "model.safetensors")
        table = next(tensors[name] for name in ("embedding.weight", "embeddings") if name in tensors)
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        if files.is_static is False:
            self._tokenizer.enable_truncation(files.max_tokens or 2**31 - 1)
        self._table = torch.tensor(table.astype(np.float32), requires_grad=True)
        # As the backend `static`, which leaves unknown words out.
        unknown = None if files.is_static else self._tokenizer.token_to_id("[UNK]")
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        self._ids = [[token for token in one.ids if token != unknown] for one in encoded]
        if unknown is not None:
            with torch.no_grad():
                self._table[unknown] = 0
        self.lengths = np.where(blank, 0, [len(one) for one in self._ids]).astype(np.int64)

    def parameters(self) -> dict[str, torch.Tensor]:
        """As `Tunable.parameters`."""
        return {"table": self._table}

    def vectors(self, rows: Rows) -> torch.Tensor:
        """As `Tunable.vectors`."""
        import torch
        from torch.nn.functional import embedding_bag, normalize

        ids = [self._ids[row] for row in rows]
        starts = np.concatenate([[0], np.cumsum([len(one) for one in ids])[:-1]]).astype(np.int64)
        flat = torch.tensor([token for one in ids for token in one], dtype=torch.long)
        return normalize(embedding_bag(flat, self._table, torch.from_numpy(starts), mode="sum"), dim=1)

    def save(self, folder: Path) -> None:
        """As `Tunable.save`."""
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding

        table = self._table.detach()
        module = StaticEmbedding(self._tokenizer, embedding_weights=table.numpy())
        SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(folder), create_model_card=False)


def encoded(model: Tunable) -> Vectors:
    """(n, d): the vectors of all texts of a model; the row of a text without tokens is zero."""
    import torch

    out: Vectors | None = None
    with torch.no_grad():
        for rows in pack(model.lengths, CHUNK_TOKENS):
            vectors = model.vectors(rows).float().numpy()
            if out is None:
                out = np.zeros((len(model.lengths), vectors.shape[1]), dtype=np.float32)
            out[rows] = vectors
    if out is None:
        raise ColdStartError("no text has a token; give descriptions of items")
    return out


class _ReachedError(Exception):
    """The forward pass has reached the layer whose input is wanted."""


def _unit(vectors: torch.Tensor, width: int) -> torch.Tensor:
    from torch.nn.functional import normalize

    return normalize(vectors[:, :width].float(), dim=1)


def _hidden(given: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
    states: torch.Tensor = given[0] if given else named["hidden_states"]
    return states


def _layers_of(network: Any, files: ModelFiles) -> tuple[Any, str, Any]:
    """The module that holds the list of layers, its name there, and the list: the longest one of the network."""
    from torch.nn import ModuleList

    found = [
        (owner, name, child)
        for owner in network[0].modules() for name, child in owner.named_children() if isinstance(child, ModuleList)
    ]  # fmt: skip
    if not found:
        raise _undivided(files, "it has no list of layers")
    return max(found, key=lambda one: len(one[2]))


def _undivided(files: ModelFiles, reason: str) -> ColdStartError:
    return ColdStartError(
        f"the network of {files.name} cannot be divided into layers that learn and layers that do not ({reason}); "
        "tune a model of BERT's family, or with --static its table of token vectors"
    )
