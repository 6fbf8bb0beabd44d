from __future__ import annotations

from pathlib import Path

import pytest

from recommender.pipeline.forget import bundles_with
from tests.support.made_up_shop import shared


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "bundle"
    shared().save(path)
    return path


@pytest.mark.parametrize(
    ("entity", "entity_id", "held"),
    [
        ("user", "u00", True), ("item", "i19", True),
        ("user", "i19", False), ("user", "u0", False), ("user", "u000", False), ("item", "1i", False),
    ],
)  # fmt: skip
def test_a_bundle_holds_whole_ids_of_its_own_kind(bundle: Path, entity: str, entity_id: str, held: bool) -> None:
    assert bundles_with(bundle, entity, entity_id) == ([bundle.resolve()] if held else [])


def test_a_folder_without_a_bundle_holds_nobody(tmp_path: Path) -> None:
    assert bundles_with(tmp_path / "bundle", "user", "u00") == []
