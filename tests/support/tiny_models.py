"""Random models of a few kilobytes, one per architecture, in the folder layouts that people have."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from coldstart_udfs.encoder.derived import sample_descriptions

WIDTH = 32

# Configuration class, model class, and what the configuration calls its sizes.
_USUAL = {
    "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "initializer_range": 0.4,
}  # fmt: skip
_DECODER = {**_USUAL, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "BertModel", _USUAL),
    "roberta": ("RobertaConfig", "RobertaModel", {**_USUAL, "pad_token_id": 1}),
    "xlm-roberta": ("XLMRobertaConfig", "XLMRobertaModel", {**_USUAL, "pad_token_id": 1}),
    "mpnet": ("MPNetConfig", "MPNetModel", {**_USUAL, "pad_token_id": 1}),
    "distilbert": ("DistilBertConfig", "DistilBertModel",
                   {"dim": WIDTH, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "initializer_range": 0.4}),
    "deberta-v2": ("DebertaV2Config", "DebertaV2Model",
                   {**_USUAL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16,
                    "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False}),
    "t5": ("T5Config", "T5EncoderModel",
           {"d_model": WIDTH, "num_layers": 2, "num_heads": 4, "d_ff": 64, "d_kv": 8, "initializer_factor": 1.0}),
    "modernbert": ("ModernBertConfig", "ModernBertModel",
                   {**_USUAL, "num_hidden_layers": 4, "local_attention": 16, "pad_token_id": 0, "bos_token_id": 2,
                    "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}),
    "qwen2": ("Qwen2Config", "Qwen2Model", _DECODER),
    "qwen3": ("Qwen3Config", "Qwen3Model", _DECODER),
    "llama": ("LlamaConfig", "LlamaModel", _DECODER),
}  # fmt: skip
# Of these the padding token has the id 1, and positions are counted from there, so that the first two are never used.
OFFSET = {"roberta", "xlm-roberta", "mpnet"}
_WITHOUT_POSITIONS = {"t5"}


def tiny_model(
    folder: Path, kind: str = "bert", *, limit: int | None = 48, positions: int = 64, **settings: Any
) -> Path:
    """Write a plain transformers model into a new folder.

    Args:
        folder: the new folder.
        kind: a name of `ARCHITECTURES`.
        limit: `model_max_length` of its tokenizer; None leaves it out.
        positions: `max_position_embeddings` of its configuration, if it has such.
        settings: further entries of its configuration.
    """
    import torch
    import transformers

    config_class, model_class, sizes = ARCHITECTURES[kind]
    tokenizer = word_pieces(pad_first=kind not in OFFSET)
    place = {} if kind in _WITHOUT_POSITIONS else {"max_position_embeddings": positions}
    config = getattr(transformers, config_class)(
        vocab_size=tokenizer.get_vocab_size(), **{**sizes, **place, **settings}
    )
    torch.manual_seed(0)
    getattr(transformers, model_class)(config).eval().save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=limit,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def saved_by_sentence_transformers(
    folder: Path, plain: Path, *further: Any, pooling: Any = "mean", **settings: Any
) -> Path:
    """Save a plain model with its pooling, and further modules, as sentence-transformers does.

    Args:
        folder: the new folder.
        plain: a folder of `tiny_model`.
        further: modules that follow the pooling.
        pooling: the mode, or several that are concatenated.
        settings: `prompts`, `default_prompt_name`, `truncate_dim`.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    modules = [Transformer(str(plain)), Pooling(WIDTH, pooling_mode=pooling), *further]
    SentenceTransformer(modules=modules, device="cpu", **settings).save_pretrained(str(folder))
    return folder


def change_json(path: Path, **entries: Any) -> None:
    """Set entries of a JSON file; None removes one."""
    content = {**(json.loads(path.read_text()) if path.exists() else {}), **entries}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


@cache
def word_pieces(*, pad_first: bool) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if pad_first else ["[UNK]", "[PAD]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(sample_descriptions(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer
