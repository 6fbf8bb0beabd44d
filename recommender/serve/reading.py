"""What a text says: tags, and the language if the encoder does not know it. Loaded when a request first asks for it."""

from __future__ import annotations

import threading
from functools import cached_property

from coldstart_client import models as schemas
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.profile import has_text
from coldstart_udfs.text.languages import Detector
from coldstart_udfs.text.tags import Tagger


class Reading:
    """Reads texts; any number of threads may ask.

    Args:
        encoder: of the recommender's vectors.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        # Of their own: who asks for a language does not wait while what finds tags is loaded.
        self._tagging, self._detecting = threading.Lock(), threading.Lock()

    def tags(self, text: str) -> list[schemas.Tag]:
        """The tags of a product's text, likeliest first; the first call takes seconds."""
        if not has_text(text):
            return []
        with self._tagging:
            (found,) = self._tagger.tag([text])
        return [schemas.Tag(label=tag.label, group=str(tag.group), score=tag.score) for tag in found]

    def other_language(self, text: str) -> str | None:
        """The language of a text if it is certain and the encoder does not know it; the first call takes a second."""
        with self._detecting:
            code = self._detector.language(text)
            return code if self._detector.is_foreign(code) else None

    @cached_property
    def _tagger(self) -> Tagger:
        return Tagger(self._encoder)

    @cached_property
    def _detector(self) -> Detector:
        return Detector(self._encoder.files.languages)
