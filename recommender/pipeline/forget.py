"""Erasure and trained recommenders: which bundles hold a user or an item."""

from __future__ import annotations

from pathlib import Path

from coldstart_udfs.errors import ColdStartError
from recommender.model.bundle_arrays import read_arrays, texts


def bundles_with(folder: Path, entity: str, entity_id: str) -> list[Path]:
    """The bundle in a folder, if it holds an entity with its text and vectors.

    Args:
        folder: of a bundle; it need not exist.
        entity: "user" or "item".
        entity_id: its id.

    Returns:
        The folder, absolute, or nothing. Files of arrays that no manifest names any more count too, and damaged ones.
    """
    folder = folder.resolve()
    for path in folder.glob("arrays-*.npz"):
        try:
            arrays = read_arrays(path, [f"{entity}_ids.bytes", f"{entity}_ids.offsets"])
            ids = texts(f"{entity}_ids", arrays)
        except ColdStartError:
            return [folder]  # damaged: it may hold the entity
        if entity_id in ids:
            return [folder]
    return []
