"""Small pictures, drawn by Pillow, good ones and bad ones."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture's file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def drawn(seed: int = 0, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A picture of coarse coloured squares, the same for the same seed."""
    squares = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(squares).resize(size, Image.Resampling.NEAREST)


def png_of(width: int, height: int, *, compressed: bytes = b"") -> bytes:
    """A PNG whose header says how large it is, whatever its content."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


def tiny_clip(folder: Path) -> Path:
    """Write a random CLIP of 16 dimensions into a new folder, as sentence-transformers saves it."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from tests.support.tiny_models import word_pieces

    pieces = word_pieces(pad_first=True)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "initializer_range": 0.4}  # fmt: skip
    config = transformers.CLIPConfig(
        text_config={**sizes, "vocab_size": pieces.get_vocab_size(), "max_position_embeddings": 48, "pad_token_id": 0,
                     "bos_token_id": 2, "eos_token_id": 3},
        vision_config={**sizes, "image_size": 32, "patch_size": 8}, projection_dim=16,
    )  # fmt: skip
    torch.manual_seed(0)
    plain = folder.with_name(folder.name + "-plain")
    transformers.CLIPModel(config).eval().save_pretrained(plain)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=pieces, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=48,
    )  # fmt: skip
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(plain)
    SentenceTransformer(str(plain), device="cpu", local_files_only=True).save_pretrained(str(folder))
    return folder
