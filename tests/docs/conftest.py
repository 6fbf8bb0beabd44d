"""The small shop of `tests/conftest.py`, trained, for pages that show a recommender."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ROOT, must
from tests.support.explored import drawn, write_export


@pytest.fixture(scope="session")
def trained_shop(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shop with a bundle, registered under a path of its own."""
    folder = tmp_path_factory.mktemp("shops") / "trained"
    # Not the registry: it names the first shop's online store, and applying the copy would drop that one's tables.
    shutil.copytree(shop, folder, ignore=shutil.ignore_patterns("*.db*"))
    feast = ("feast", "-c", "feature_repo")
    must(*feast, "apply", cwd=folder)
    must(*feast, "materialize", "2010-01-01T00:00:00", "2012-01-01T00:00:00", cwd=folder)
    must("coldstart", "train", "--cutoff", "2011-08-01", cwd=folder)
    must(*feast, "apply", cwd=folder)
    return folder


def example_files(name: str) -> Any:
    """A fixture: a folder with an example, as in a checkout."""

    @pytest.fixture(scope="session")
    def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("checkout")
        shutil.copytree(ROOT / "examples" / name, folder / "examples" / name)
        return folder

    return files


chinese_files = example_files("chinese_shop")
ads_files = example_files("ads")
catalogue_files = example_files("catalogue")
feed_files = example_files("feed")
helpdesk_files = example_files("helpdesk")
recipe_files = example_files("recipes")


@pytest.fixture(scope="session")
def exported_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an export of an event log that has explored places."""
    folder = tmp_path_factory.mktemp("exports")
    write_export(folder / "data" / "exported", drawn(2_000))
    return folder


@pytest.fixture(scope="session")
def event_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the event log of a service that nobody has used yet."""
    from recommender.serve.events.log import EventLog

    folder = tmp_path_factory.mktemp("logs")
    EventLog.open(f"sqlite:///{folder}/data/events.db").close()
    return folder
