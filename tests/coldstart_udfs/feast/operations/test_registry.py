"""`feast materialize` that runs or was killed, and a registry that was not written whole: what our commands say."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from feast import FeatureStore

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.operations import stores
from coldstart_udfs.feast.operations.put import put
from coldstart_udfs.feast.operations.registry import materializing, never_materialized, told
from coldstart_udfs.feast.operations.stores import open_store
from tests.support.small_shop import stuck

SERVES = "serve_features_while_materializing: true"


def test_the_template_serves_while_views_are_materialised(small: Path, store: FeatureStore) -> None:
    assert (materializing(store), told(store), never_materialized(store, "user_id")) == ([], None, [])
    stuck(store, "user_profiles")
    repo = small / "feature_repo"
    assert put(repo, "user", "ann", "brass lamps").retrievable.all()
    reason = told(open_store(repo))
    assert reason == (
        "user_profiles: a `feast materialize` is running, or was killed; if none is running, run "
        f"`feast -c {repo} materialize` again"
    )


def test_a_repository_that_does_not_serve_meanwhile_says_so(small: Path, store: FeatureStore) -> None:
    stuck(store, "user_profiles")
    repo = small / "feature_repo"
    config = repo / "feature_store.yaml"
    config.write_text(config.read_text().replace(SERVES, SERVES.replace("true", "false")))
    with pytest.raises(ColdStartError, match="user_profiles: a `feast materialize` is running, or was .*" + SERVES):
        put(repo, "user", "ann", "brass lamps")


@pytest.mark.parametrize(("kept", "state"), [(0, "empty"), (1_000, "damaged")])
def test_a_registry_that_was_not_written_whole_is_named(
    small: Path, kept: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "_BEING_WRITTEN", 0.0)
    repo = small / "feature_repo"
    registry = repo / "data" / "registry.db"
    registry.write_bytes(registry.read_bytes()[:kept])
    with pytest.raises(ColdStartError, match=rf"registry\.db is {state}: .*Delete it, then run `feast -c .* apply`"):
        open_store(repo)


def test_a_registry_that_is_just_being_written_is_read_when_it_is_whole(small: Path, store: FeatureStore) -> None:
    registry = small / "feature_repo" / "data" / "registry.db"
    stuck(store, "user_profiles")
    content = registry.read_bytes()
    for read in (lambda: open_store(small / "feature_repo"), lambda: store):
        registry.write_bytes(b"")
        timer = threading.Timer(0.3, registry.write_bytes, [content])
        timer.start()
        assert materializing(read()) == ["user_profiles"]
        timer.join()


def test_feasts_warning_about_the_template_is_not_shown(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert open_store(small / "feature_repo").config.registry.serve_features_while_materializing
    assert caplog.records == []
