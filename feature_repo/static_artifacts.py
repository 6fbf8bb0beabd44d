"""Each worker of `feast serve` loads this file once, before the first request."""

from pathlib import Path
from typing import Any

from coldstart_udfs.encoder import shared_encoder
from coldstart_udfs.settings import Enrichment


def load_artifacts(app: Any) -> None:
    """Load the encoder, so that the first request does not wait for it."""
    settings = Enrichment.of_repo(Path(__file__).resolve().parent)
    shared_encoder(settings.model, backend=settings.backend).encode(["the first text loads the encoder"])
