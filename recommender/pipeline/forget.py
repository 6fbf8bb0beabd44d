"""Erasure and trained recommenders: which bundles hold a user or an item."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def bundles_with(folder: Path, entity: str, entity_id: str) -> list[Path]:
    """The bundle in a folder, if it holds an entity with its text and vectors.

    Args:
        folder: of a bundle; it need not exist.
        entity: "user" or "item".
        entity_id: its id.

    Returns:
        The folder, absolute, or nothing. Files of arrays that no manifest names any more count too.
    """
    folder = folder.resolve()
    wanted = entity_id.encode("utf-8", "surrogatepass")
    for path in folder.glob("arrays-*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            names, offsets = arrays[f"{entity}_ids.bytes"].tobytes(), arrays[f"{entity}_ids.offsets"]
        starts = offsets[:-1][np.diff(offsets) == len(wanted)]
        if any(names[start : start + len(wanted)] == wanted for start in starts):
            return [folder]
    return []
