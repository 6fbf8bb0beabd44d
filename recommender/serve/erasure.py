"""Erase a user from everything that the service reads and writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.link import is_linked
from recommender.pipeline.linking import BROUGHT_BACK, erase_from_targets
from recommender.serve.events.export import erase_from_export
from recommender.serve.live import Live, Receipt

# The folder of the tables has in it the export of `coldstart learn`.
EXPORTED = "exported"


def erase_user(
    live: Live, store: Any, user_id: str, *, data: Path | None, cache: Path | None = None, patience: float = 5.0
) -> Receipt:
    """Erase a user from event log, bundle and workers, then from the feature store, its sources, tables and cache.

    The log comes first: from then on no worker and no restart brings the user back, whatever happens after it.

    Args:
        live: of the worker that was asked.
        store: the FeatureStore, or the folder of its repository.
        user_id: the user.
        data: the folder of the tables of the data contract, and of the export of `coldstart learn`; None if there are
            none on this machine.
        cache: the file of the vector cache; None is the machine's.
        patience: for how many seconds to wait for a `feast materialize` that runs.

    Returns:
        What was removed, by place, and what remains.

    Raises:
        EventLogError: the log cannot be written; nothing was erased.
    """
    from coldstart_udfs.feast.operations.forget import forget

    receipt = live.forget_user(user_id)
    removed, remains = dict(receipt.removed), list(receipt.remains)
    exported = data / EXPORTED if data else None
    if exported is not None and exported.is_dir():
        try:
            removed[f"rows, {exported}"] = erase_from_export(exported, user_id)
        except ColdStartError as error:
            remains.append(f"the export still has the user: {error}. `coldstart events export {exported}` removes them")
    if data is not None:
        try:
            linked = erase_from_targets(data, user_id)
        except ColdStartError as error:
            remains.append(f"linked shops still have the user: {error}. Then run `coldstart forget`")
        else:
            removed |= {f"{what}, {place}": count for place, what, count in linked.removed}
            remains += linked.remains
    if is_linked(Path(getattr(store, "repo_path", store))):
        remains.append(BROUGHT_BACK)
    try:
        done = forget(store, "user", user_id, data=data, cache=cache, patience=patience)
    except ColdStartError as error:
        remains.insert(0, f"the feature store and the tables still have the user: {error}. Then run `coldstart forget`")
    else:
        for row in done.removed:
            name = f"{row.what}, {row.place}"
            removed[name] = removed.get(name, 0) + row.count
        remains += done.notes
    return Receipt(removed, remains)
