"""The encoder from which another one was tuned: it still knows what words mean, apart from who buys what."""

from __future__ import annotations

from coldstart_udfs.encoder.encoder import Encoder, shared_encoder
from coldstart_udfs.encoder.tuning.manifests import tuned_from


def base_of(encoder: Encoder) -> Encoder:
    """The encoder whose similarity is that of meanings: of a tuned encoder its first parent, else itself."""
    manifest = tuned_from(encoder.files)
    if manifest is None:
        return encoder
    settings = encoder.__getstate__()
    backend = "static" if manifest.parent_backend == "static" else str(settings["backend"])
    cache = settings["cache"]
    parent = shared_encoder(manifest.parent, cache if isinstance(cache, (bool, str)) else True, backend)
    return base_of(parent)
