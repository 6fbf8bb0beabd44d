"""The modules of a sentence-transformers model, read from its folder: what they are, their width, their token limit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldstart_udfs.errors import ColdStartError

# The names under which releases of sentence-transformers save the settings of a Transformer module.
_SETTINGS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")

# What configurations call the width of a module's output; a Transformer's come last.
_WIDTHS = ("out_features", "word_embedding_dimension", "embedding_dimension", "dimension",
           "hidden_size", "d_model", "dim", "n_embd", "emb_dim")  # fmt: skip

# The flags by which releases before 6 save the modes of a Pooling module.
_POOLING_FLAGS = (
    "pooling_mode_cls_token", "pooling_mode_max_tokens", "pooling_mode_mean_tokens",
    "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken",
)  # fmt: skip

# Architectures with a table of positions: a longer text is an error in the network. Some count from the id of the
# padding token on, so that the first places of the table are never used.
_FROM_PADDING = ("camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta",
                 "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod")  # fmt: skip
_FROM_ZERO = ("albert", "bert", "convbert", "distilbert", "electra", "ernie", "gpt2", "mobilebert", "nystromformer",
              "opt", "rembert", "squeezebert")  # fmt: skip
# Architectures without any limit of their own; their configuration has no `max_position_embeddings`.
_UNLIMITED = ("longt5", "mt5", "switch_transformers", "t5", "umt5")

# transformers writes 1e30 where a tokenizer has no limit, other tools write other large numbers.
_NO_LIMIT = 2**31


@dataclass(frozen=True)
class Module:
    """One module of a model.

    Attributes:
        kind: name of its class, for example "Transformer", "Pooling", "StaticEmbedding".
        folder: where its files are; the folder may be missing.
        plain: whether transformers saved it, so that sentence-transformers has no settings for it.
    """

    kind: str
    folder: Path
    plain: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """Its `config.json`; {} if there is none."""
        return dict(read_json(self.folder / "config.json"))

    @property
    def settings(self) -> dict[str, Any]:
        """What sentence-transformers saves beside the configuration of a Transformer module; {} if nothing."""
        found = (read_json(self.folder / f"sentence_{name}_config.json") for name in _SETTINGS)
        return dict(next(filter(None, found), {}))

    @property
    def width(self) -> int | None:
        """Length of the vectors that leave the module; None if its files do not say."""
        if self.kind == "StaticEmbedding":
            return _table_width(self.folder / "model.safetensors")
        config = self.config
        config = {**config.get("text_config", {}), **config} if self.kind == "Transformer" else config
        found = next((int(config[name]) for name in _WIDTHS if isinstance(config.get(name), int)), None)
        return found * self._modes if found and self.kind == "Pooling" else found

    @property
    def _modes(self) -> int:
        """The number of pooled vectors that a Pooling module concatenates."""
        mode = self.config.get("pooling_mode")
        if mode is None:
            return sum(bool(self.config.get(flag)) for flag in _POOLING_FLAGS) or 1
        return 1 if isinstance(mode, str) else len(mode)

    @property
    def token_limit(self) -> int | None:
        """The number of tokens at which sentence-transformers cuts a text, special ones included; None if nowhere.

        A limit that sentence-transformers takes from the files although the network has fewer positions is lowered to
        the number of positions.
        """
        if self.kind == "StaticEmbedding":
            # The tokenizer is used as it is, with its own truncation.
            return (read_json(self.folder / "tokenizer.json").get("truncation") or {}).get("max_length")
        settings, config = self.settings, self.config
        positions = self._positions(config)
        limit = self.tokenizer_settings.get("model_max_length", settings.get("max_seq_length"))
        if limit is None:
            tokenizer = read_json(self.folder / "tokenizer_config.json")
            limit = tokenizer.get("model_max_length") or tokenizer.get("max_len") or _NO_LIMIT
            limit = min(limit, positions or _NO_LIMIT)
        kind = config.get("model_type")
        if positions and kind in _FROM_PADDING:
            padding = 1 if kind == "mpnet" else config.get("pad_token_id", 1)
            limit = min(limit, positions - padding - 1)
        elif positions and kind in _FROM_ZERO:
            limit = min(limit, positions)
        return int(limit) if limit < _NO_LIMIT else None

    @property
    def tokenizer_settings(self) -> dict[str, Any]:
        """Arguments with which sentence-transformers opens the tokenizer of a Transformer module."""
        settings = self.settings
        given = dict(settings.get("processor_kwargs") or settings.get("tokenizer_args") or {})
        return {name: value for name, value in given.items() if name != "trust_remote_code"}

    @property
    def chat_template(self) -> str | None:
        """The template into which sentence-transformers writes every text before it is split; None if it does not."""
        if not self.plain and "message" not in self.settings.get("modality_config", {}):
            return None
        file = self.folder / "chat_template.jinja"
        if file.is_file():
            return file.read_text(encoding="utf-8")
        template = read_json(self.folder / "tokenizer_config.json").get("chat_template")
        return None if template is None else str(template)

    def _positions(self, config: dict[str, Any]) -> int | None:
        if "max_position_embeddings" not in config and config.get("model_type") not in (None, *_UNLIMITED):
            from transformers import AutoConfig

            try:
                # The architecture's default, or another name for the same number.
                loaded = AutoConfig.from_pretrained(self.folder, local_files_only=True)
            except (KeyError, OSError, ValueError):
                return None  # a network that is not known here; loading it says so
            config = {"max_position_embeddings": getattr(loaded, "max_position_embeddings", None)}
        found = config.get("max_position_embeddings")
        return found if isinstance(found, int) and found > 0 else None


def modules_of(folder: Path) -> list[Module]:
    """The modules of a model, in order; of a plain transformers folder, which has no list of them, the Transformer."""
    listed = read_json(folder / "modules.json")
    if not listed:
        return [Module("Transformer", folder, plain=True)]
    return [Module(str(one["type"]).rpartition(".")[2], folder / one["path"]) for one in listed]


def read_json(path: Path) -> Any:
    """The JSON in a file; {} if the file does not exist.

    Raises:
        ColdStartError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ColdStartError(f"{path} is not valid JSON ({error}); restore the file") from error


def _table_width(path: Path) -> int | None:
    """The width of the only table in a file of safetensors, by its header; None if there is no such file."""
    from safetensors import safe_open

    if not path.is_file():
        return None
    with safe_open(path, framework="numpy") as file:
        # The second name is model2vec's.
        name = next((name for name in ("embedding.weight", "embeddings") if name in file.keys()), None)  # noqa: SIM118
        return int(file.get_slice(name).get_shape()[1]) if name else None
