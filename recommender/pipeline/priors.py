"""Learn a prior from the tables of several shops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.made_from import data_hash, versions_of
from coldstart_udfs.settings import Enrichment
from recommender.data.dataset import files_in, read_dataset
from recommender.data.events import EventWeights
from recommender.tuning.prior import Prior
from recommender.tuning.prior_learning import DRAWS, FEWEST_SHOPS, SIZES, Episodes, learn_level
from recommender.tuning.small_shops import Episode, Shop, episode

# Beside those of the small shop, a shop has so many other users, to be asked.
FEWEST_OTHERS = 20


def learn(
    folders: Sequence[Path], sizes: Sequence[int] = SIZES, *, draws: int = DRAWS, model: str | None = None,
    report: Report = no_report,
) -> Prior:
    """Draw small shops from each shop and learn what they have in common.

    A shop counts for the sizes that leave it twenty users more. A size that fewer than three shops have is left out.

    Args:
        folders: of shops, see `shop_in`.
        sizes: numbers of users, rising.
        draws: of small shops, by shop and size.
        model: the encoder of shops without settings; None: the default.
        report: called with (stage, done, total).

    Raises:
        ColdStartError: fewer than three shops, one shop twice, too few users, or tables that break the contract.
    """
    if len(folders) < FEWEST_SHOPS:
        raise ColdStartError(
            f"{len(folders)} shops are given, a prior needs {FEWEST_SHOPS}: what helps in one shop need not help in "
            "another; `--prior public` is made from public data sets"
        )
    drawn: dict[int, dict[str, list[Episode]]] = {size: {} for size in sizes}
    about: list[dict[str, Any]] = []
    for number, folder in enumerate(folders):
        shop, told = shop_in(folder, model)
        if told["tables_sha256"] in {one["tables_sha256"] for one in about}:
            raise ColdStartError(f"{folder} has the tables of a shop that was given before; give each shop once")
        about.append(told)
        users = len(np.unique(shop.interactions.users))
        for size in sizes:
            if users >= size + FEWEST_OTHERS:
                found = list(_episodes(shop, size, draws))
                if found:
                    drawn[size][f"{number}"] = found
        report("small shops", number + 1, len(folders))
    able = {size: found for size, found in drawn.items() if len(found) >= FEWEST_SHOPS}
    if not able:
        raise ColdStartError(
            f"fewer than {FEWEST_SHOPS} shops have {min(sizes) + FEWEST_OTHERS} users with interactions, which small "
            f"shops of {min(sizes)} users take; give larger shops"
        )
    levels = [learn_level(Episodes(size, found)) for size, found in able.items()]
    made = {"by": "coldstart prior learn", "draws": draws, **versions()}
    return Prior(levels, about, made)


def versions() -> dict[str, str]:
    """What a prior depends on."""
    return versions_of(("feast-coldstart", "lightfm-next"))


def shop_in(folder: Path, model: str | None = None) -> tuple[Shop, dict[str, Any]]:
    """Read one shop, and say what it is without naming anybody.

    Args:
        folder: with the tables, or with `data` and a Feast repository `feature_repo`, whose settings then count.
        model: the encoder, if there are no settings.

    Raises:
        ColdStartError: no such folder, or tables that break the contract.
    """
    repo, tables = folder / "feature_repo", folder
    settings = Enrichment(model=model)
    if repo.is_dir():
        settings, tables = Enrichment.of_repo(repo), folder / "data"
    data = read_dataset(
        *files_in(tables), model=settings.model, backend=settings.backend, weights=settings.event_weights
    )
    shop = Shop(data.name, data.interactions, data.users, data.items, EventWeights.of_settings(settings))
    about = {
        "tables_sha256": data_hash(tables), "users": len(data.users), "items": len(data.items),
        "interactions": len(data.interactions), "encoder": data.items.fingerprint,
    }  # fmt: skip
    return shop, about


def _episodes(shop: Shop, size: int, draws: int) -> Iterator[Episode]:
    for draw in range(draws):
        if (found := episode(shop, size, draw)) is not None:
            yield found
