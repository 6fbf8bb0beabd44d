"""Erasure and trained recommenders: which bundles hold a user or an item, and bundles without a user."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.locks import writing
from recommender.model.bundle import about_of, read_bundle, read_manifest, write_bundle
from recommender.model.bundle_arrays import read_arrays, texts
from recommender.model.revising import without_users


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


def erase_from_bundle(folder: Path, user_ids: Collection[str], *, wait: float = 5.0) -> list[str]:
    """Write a bundle again without some users; see `recommender.model.revising.without_users` for what remains.

    Args:
        folder: of the bundle.
        user_ids: ids that it may hold.
        wait: for how many seconds to wait for another process that writes it.

    Returns:
        The ids that it held.

    Raises:
        BundleError: it cannot be read or written; it is as it was.
        InUseError: another process writes it, such as `coldstart train`; it is as it was.
    """
    with writing(folder, command="erasure of a user", wait=wait):
        held = [name for name in dict.fromkeys(user_ids) if bundles_with(folder, "user", name)]
        if held:
            write_bundle(without_users(read_bundle(folder), held), folder, about_of(read_manifest(folder)))
    return held
