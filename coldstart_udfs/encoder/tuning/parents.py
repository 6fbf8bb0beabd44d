"""The encoder from which another one was tuned: it still knows what words mean, apart from who buys what."""

from __future__ import annotations

import os

from coldstart_udfs.encoder.encoder import Encoder, shared_encoder
from coldstart_udfs.encoder.tuning.manifests import tuned_from
from coldstart_udfs.errors import ColdStartError


def base_of(encoder: Encoder) -> Encoder:
    """The encoder whose similarity is that of meanings: of a tuned encoder its first parent, else itself.

    Raises:
        ColdStartError: the parent is not there, or its folder holds the tuned encoder.
    """
    manifest = tuned_from(encoder.files)
    if manifest is None:
        return encoder
    if manifest.parent is not None and os.path.realpath(manifest.parent) == os.path.realpath(encoder.files.folder):
        raise ColdStartError(
            f"{manifest.parent} holds the tuned encoder in the place of its parent, whose meanings are needed here; "
            f"move it to another folder, and put the encoder {manifest.parent_fingerprint} back"
        )
    settings = encoder.__getstate__()
    backend = "static" if manifest.parent_backend == "static" else str(settings["backend"])
    cache = settings["cache"]
    parent = shared_encoder(manifest.parent, cache if isinstance(cache, (bool, str)) else True, backend)
    return base_of(parent)
