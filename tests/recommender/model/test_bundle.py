"""A recommender on disk: the same after loading, and a named error where anything is not as it was written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.model.bundle import BundleError, read_manifest, verified
from recommender.model.known import KnownEntities
from recommender.model.recommender import HybridRecommender
from tests.support.commands import ROOT
from tests.support.made_up_shop import SPADE, every_score, new, shared, trained

# What the file of arrays is called, besides which there are a manifest and a lock.
ARRAYS = "arrays-*.npz"


@pytest.fixture(scope="module")
def model() -> HybridRecommender:
    return shared()


@pytest.fixture
def bundle(model: HybridRecommender, tmp_path: Path) -> Path:
    model.save(tmp_path / "bundle", about={"note": "kept"})
    return tmp_path / "bundle"


def arrays_of(bundle: Path) -> Path:
    (found,) = bundle.glob(ARRAYS)
    return found


def test_a_bundle_gives_the_same_answers_after_loading(model: HybridRecommender, bundle: Path) -> None:
    loaded = HybridRecommender.load(bundle)
    np.testing.assert_array_equal(every_score(model), every_score(loaded))
    np.testing.assert_array_equal(model.score(None, model.items.ids), loaded.score(None, loaded.items.ids))
    for user in ("u00", new("a spade", SPADE)):
        assert model.recommend(user, explain=True).equals(loaded.recommend(user, explain=True))
    assert model.audience(["i00", "i09"]).equals(loaded.audience(["i00", "i09"]))
    assert loaded.parameters == model.parameters
    assert read_manifest(bundle)["note"] == "kept"


def test_texts_of_any_kind_come_back(tmp_path: Path) -> None:
    model = trained()
    odd = ['ünïcödé "quoted"\n\x00', "", "\ud800 alone", "漢字 🙂"]
    items = replace(model.items, descriptions=[*odd, *model.items.descriptions[4:]])
    HybridRecommender.of(model.fitted.changed(items=KnownEntities(items))).save(tmp_path)
    assert HybridRecommender.load(tmp_path).items.descriptions == items.descriptions


def test_saving_again_leaves_one_bundle_and_the_first_is_replaced(model: HybridRecommender, bundle: Path) -> None:
    other = trained(seed=1)
    other.save(bundle)
    assert len(list(bundle.glob("*.npz"))) == 1
    assert sorted(path.suffix for path in bundle.iterdir() if not path.name.startswith(".")) == [".json", ".npz"]
    np.testing.assert_array_equal(every_score(HybridRecommender.load(bundle)), every_score(other))
    assert "note" not in read_manifest(bundle)


def test_what_a_killed_process_left_is_taken_away(model: HybridRecommender, bundle: Path) -> None:
    (bundle / "unfinished.npz").write_bytes(b"half")
    (bundle / "arrays-0123456789abcdef.npz").write_bytes(b"an old one")
    (bundle / ".unfinished-xyz").mkdir()
    model.save(bundle)
    assert {path.name for path in bundle.iterdir()} == {"manifest.json", ".lock", arrays_of(bundle).name}


def test_the_manifest_says_what_is_inside(bundle: Path, model: HybridRecommender) -> None:
    manifest, file = verified(bundle)
    assert (manifest["users"], manifest["items"], manifest["warm_items"]) == (40, 20, 18)
    assert manifest["interactions"] == model.fitted.history.whole.nnz
    assert manifest["embedding_fingerprint"] == "stub"
    assert manifest["bytes"] == file.stat().st_size
    assert manifest["feature_space"]["item"]["identities"] == 18
    assert {"numpy", "lightfm-next", "feast-coldstart", "rjieba", "icu4py"} <= set(manifest["versions"])


def no_pickle(bundle: Path) -> None:
    with np.load(arrays_of(bundle), allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive.files)


def test_nothing_in_a_bundle_runs_when_it_is_loaded(bundle: Path) -> None:
    no_pickle(bundle)


# -- damage -------------------------------------------------------------------------------------------


def rewritten(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def swapped(bundle: Path) -> None:
    """The arrays of another bundle in the place of these."""
    other = bundle.parent / "other"
    trained(seed=2).save(other)
    shutil.copy(arrays_of(other), arrays_of(bundle))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut by a hundred bytes": (lambda b: arrays_of(b).write_bytes(arrays_of(b).read_bytes()[:-100]), "altered or cut"),
    "cut to half": (lambda b: arrays_of(b).write_bytes(arrays_of(b).read_bytes()[: 10_000]), "altered or cut"),
    "empty": (lambda b: arrays_of(b).write_bytes(b""), "altered or cut"),
    "arrays missing": (lambda b: arrays_of(b).unlink(), "is missing"),
    "arrays of another bundle": (swapped, "altered or cut"),
    "a folder in their place": (lambda b: (arrays_of(b).rename(b / "x"), (b / "x").unlink()), "is missing"),
    "manifest missing": (lambda b: (b / "manifest.json").unlink(), "holds no bundle .*is missing"),
    "manifest cut": (lambda b: (b / "manifest.json").write_text((b / "manifest.json").read_text()[:300]), "is damaged"),
    "manifest empty": (lambda b: (b / "manifest.json").write_text(""), "is damaged"),
    "manifest of bytes": (lambda b: (b / "manifest.json").write_bytes(b"\xff\xfe\x00"), "is damaged"),
    "manifest a list": (lambda b: (b / "manifest.json").write_text("[1]"), "format None; this version reads"),
    "of the future": (lambda b: rewritten(b, lambda m: m.update(format=99)), "format 99; this version reads format"),
    "an unknown parameter": (lambda b: rewritten(b, lambda m: m["parameters"].update(zeta=1)), "was altered"),
    "a parameter changed": (lambda b: rewritten(b, lambda m: m["parameters"].update(alpha=9.0)), "was altered"),
    "another fingerprint": (lambda b: rewritten(b, lambda m: m.update(embedding_fingerprint="x")), "was altered"),
    "an entry missing": (lambda b: rewritten(b, lambda m: m.pop("parameters")), r"lacks \['parameters'\]"),
    "arrays elsewhere": (lambda b: rewritten(b, lambda m: m.update(arrays="../../x.npz")), "was altered"),
    "the whole folder": (shutil.rmtree, "holds no bundle"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_a_named_error_that_says_what_to_do(bundle: Path, damage: str) -> None:
    harm, named = DAMAGES[damage]
    harm(bundle)
    with pytest.raises(BundleError, match=named) as told:
        HybridRecommender.load(bundle)
    assert "train" in str(told.value)
    assert str(bundle) in str(told.value)


def test_a_bundle_of_an_earlier_format_is_refused_with_what_to_do() -> None:
    path = ROOT / "tests" / "fixtures" / "bundle_of_format_2"
    with pytest.raises(BundleError, match=r"bundle_of_format_2 is a bundle of format 2; this version reads format 5: "
                       "train again with `coldstart train`"):  # fmt: skip
        HybridRecommender.load(path)


def test_one_flipped_bit_anywhere_in_the_arrays_is_found(bundle: Path) -> None:
    path = arrays_of(bundle)
    sound = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [0, 30, 500, len(sound) - 1, *rng.integers(0, len(sound), 40)]:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << int(rng.integers(8))]) + sound[place + 1 :])
        with pytest.raises(BundleError, match="altered or cut"):
            HybridRecommender.load(bundle)
    path.write_bytes(sound)
    HybridRecommender.load(bundle)


def test_one_flipped_bit_in_the_manifest_never_gives_another_score(model: HybridRecommender, bundle: Path) -> None:
    path, wanted = bundle / "manifest.json", every_score(model)
    sound = path.read_bytes()
    refused = 0
    for place in range(0, len(sound), 7):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << place % 7]) + sound[place + 1 :])
        try:
            loaded = HybridRecommender.load(bundle)
        except BundleError:
            refused += 1
        else:  # a bit between two entries, that says nothing
            assert loaded.parameters == model.parameters
            np.testing.assert_array_equal(every_score(loaded), wanted)
    assert refused > 0.8 * len(range(0, len(sound), 7))


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path, model: HybridRecommender) -> None:
    path = tmp_path / "file"
    path.write_text("not a folder")
    with pytest.raises(BundleError, match=r"file holds no bundle"):
        HybridRecommender.load(path)
    with pytest.raises(BundleError, match=r"file cannot be written"):
        model.save(path)
    assert path.read_text() == "not a folder"


def test_a_manifest_that_cannot_be_written_leaves_the_old_bundle(model: HybridRecommender, bundle: Path) -> None:
    with pytest.raises(TypeError):
        trained(seed=3).save(bundle, about={"metrics": object()})
    np.testing.assert_array_equal(every_score(HybridRecommender.load(bundle)), every_score(model))
    assert read_manifest(bundle)["note"] == "kept"
    assert len(list(bundle.glob("*.npz"))) == 1


def test_what_is_not_fitted_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ColdStartError, match="not fitted"):
        HybridRecommender().save(tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
