"""Bundles beside the one that serves: promoted, refused, rolled back, and few enough."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from recommender.cli.app import app
from recommender.model.bundle import BundleError, bundle_id, read_manifest
from recommender.model.recommender import HybridRecommender
from recommender.pipeline import bundles
from recommender.pipeline.bundles import journal, kept, kept_folder, promote, refuse, rollback
from recommender.pipeline.forget import erase_from_bundle
from tests.support.made_up_shop import shared


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    save(tmp_path / "bundle", 0)
    return tmp_path / "bundle"


def save(folder: Path, number: int) -> str:
    """A bundle that differs from others in a parameter, which is no array: the id is given."""
    model = shared().with_parameters(alpha=1.0 + number)
    model.save(folder, about={"id": f"bundle{number}", "events": {"log": "x", "watermark": number}})
    return f"bundle{number}"


def alpha(bundle: Path) -> float:
    return HybridRecommender.load(bundle).parameters.alpha


def candidate(serving: Path, number: int) -> Path:
    folder = serving.with_name("candidate")
    save(folder, number)
    return folder


def test_an_id_is_that_of_the_arrays_and_outlives_an_erasure(tmp_path: Path) -> None:
    shared().save(tmp_path / "bundle")
    manifest = read_manifest(tmp_path / "bundle")
    assert bundle_id(manifest) == manifest["sha256"][:16]
    assert erase_from_bundle(tmp_path / "bundle", ["u03", "nobody"]) == ["u03"]
    after = read_manifest(tmp_path / "bundle")
    assert after["sha256"] != manifest["sha256"]
    assert bundle_id(after) == bundle_id(manifest)


def test_a_promoted_bundle_serves_and_the_one_before_is_kept(serving: Path) -> None:
    entry = promote(serving, candidate(serving, 1), "better")
    assert (entry.step, entry.bundle, entry.before, entry.why, entry.watermark) == (
        "promoted", "bundle1", "bundle0", "better", 1
    )  # fmt: skip
    assert alpha(serving) == 2.0
    assert [(one.id, one.serves) for one in sorted(kept(serving), key=lambda one: one.id)] == [
        ("bundle0", False), ("bundle1", True)
    ]  # fmt: skip
    assert len(list(serving.glob("arrays-*.npz"))) == 1


def test_rollbacks_go_back_step_by_step(serving: Path) -> None:
    for number in (1, 2):
        promote(serving, candidate(serving, number))
    assert [rollback(serving).bundle for _ in range(2)] == ["bundle1", "bundle0"]
    assert alpha(serving) == 1.0
    with pytest.raises(BundleError, match="no bundle was promoted over another"):
        rollback(serving)
    promote(serving, "bundle2")
    assert alpha(serving) == 3.0
    assert rollback(serving).bundle == "bundle0"
    assert [entry.step for entry in journal(serving)] == [
        "promoted", "promoted", "rolled back", "rolled back", "promoted", "rolled back"
    ]  # fmt: skip


def test_a_refused_candidate_is_kept_and_does_not_serve(serving: Path) -> None:
    refuse(serving, candidate(serving, 1), "worse")
    assert alpha(serving) == 1.0
    assert (journal(serving)[-1].step, journal(serving)[-1].bundle) == ("refused", "bundle1")
    assert promote(serving, "bundle1").before == "bundle0"  # by hand it may


def test_damaged_and_unknown_bundles_are_not_promoted(serving: Path) -> None:
    folder = candidate(serving, 1)
    with next(folder.glob("arrays-*.npz")).open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="was altered or cut"):
        promote(serving, folder)
    for name in ("nothing", "../bundle"):
        with pytest.raises(BundleError, match=r"no bundle .* is kept"):
            promote(serving, name)
    assert alpha(serving) == 1.0


def test_few_bundles_are_kept(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "KEPT", 2)
    for number in range(1, 6):
        promote(serving, candidate(serving, number))
    assert sorted(path.name for path in kept_folder(serving).glob("bundle*")) == ["bundle3", "bundle4", "bundle5"]


def test_the_commands_list_promote_and_roll_back(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    at = ["--bundle", str(serving)]
    run = CliRunner().invoke
    assert "bundle0" in run(app, ["bundles", "list", *at]).output
    refuse(serving, candidate(serving, 1), "worse [sic]")
    done = run(app, ["bundles", "promote", "bundle1", *at])
    assert (done.exit_code, done.output) == (0, "bundle1 serves now, bundle0 before\n")
    listed = run(app, ["bundles", "list", *at]).output
    assert "serves" in next(line for line in listed.splitlines() if "bundle1" in line)
    done = run(app, ["bundles", "rollback", *at])
    assert (done.exit_code, done.output) == (0, "bundle0 serves again, bundle1 before\n")
