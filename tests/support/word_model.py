"""A real model of a few kilobytes, for tests that give an encoder by name: one vector a word, drawn from a seed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

BACKEND = "torch"


def word_model(folder: Path, words: Iterable[str], width: int = 64) -> str:
    """Write a sentence-transformers model into a new folder and return its name, to be run by `BACKEND`.

    A text's vector is the mean of its words' vectors, so texts that share words are near each other. Words that are
    not among `words` share one vector.
    """
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    folder.mkdir(parents=True)
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(["[UNK]", "[PAD]", *words]))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    vectors = np.random.default_rng(0).normal(size=(len(vocabulary), width)).astype(np.float32)
    save_file({"embedding.weight": vectors}, folder / "model.safetensors")
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"}
    (folder / "modules.json").write_text(json.dumps([module]))
    (folder / "config.json").write_text(json.dumps({"hidden_size": width}))
    return str(folder)
