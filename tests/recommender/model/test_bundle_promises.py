"""What a bundle promises is checked when it is loaded, right checksums or not: a BundleError, or the same answers."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recommender.model import bundle as bundle_module
from recommender.model.bundle import BundleError
from recommender.model.bundle_arrays import NAMES
from recommender.model.recommender import HybridRecommender
from recommender.pipeline.forget import bundles_with
from tests.support.made_up_shop import every_score, shared

Array = NDArray[Any]


@pytest.fixture(scope="module")
def wanted() -> Array:
    return every_score(shared())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    shared().save(tmp_path / "bundle")
    return tmp_path / "bundle"


def file_of(bundle: Path) -> Path:
    (found,) = bundle.glob("arrays-*.npz")
    return found


def arrays_of(bundle: Path) -> dict[str, Array]:
    with np.load(file_of(bundle)) as archive:
        return dict(archive)


def sealed(bundle: Path, content: bytes | None = None, **entries: Any) -> None:
    """Write other arrays, or other entries of the manifest, with the checksums that belong to them."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    if content is not None:
        file_of(bundle).unlink()
        digest = hashlib.sha256(content).hexdigest()
        manifest |= {"sha256": digest, "bytes": len(content), "arrays": f"arrays-{digest[:16]}.npz"}
        (bundle / manifest["arrays"]).write_bytes(content)
    manifest |= entries
    manifest.pop("manifest_sha256")
    text = json.dumps({name: value for name, value in manifest.items() if value is not ...})
    manifest = json.loads(text)
    manifest["manifest_sha256"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(manifest))


def packed(arrays: dict[str, Array]) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def refused(bundle: Path) -> str:
    with pytest.raises(BundleError) as told:
        HybridRecommender.load(bundle)
    assert str(bundle) in str(told.value)
    assert "train" in str(told.value)
    return str(told.value)


def refused_or_the_same(bundle: Path, wanted: Array, change: str = "") -> None:
    loaded = None
    with contextlib.suppress(BundleError):
        loaded = HybridRecommender.load(bundle)
    if loaded:
        np.testing.assert_array_equal(every_score(loaded), wanted, err_msg=change)


# -- arrays --------------------------------------------------------------------------------------------


def filled(array: Array, value: float) -> Array:
    """The array with another number in the middle."""
    changed = array.copy().reshape(-1)
    if len(changed):
        changed[len(changed) // 2] = value
    return changed.reshape(array.shape)


ANY: dict[str, Callable[[Array], Array]] = {
    "texts": lambda a: a.astype(str),
    "objects": lambda a: a.astype(object),
    "complex": lambda a: a.astype(complex),
    "booleans": lambda a: a.astype(bool),
    "one more dimension": lambda a: a[None],
    "nothing": lambda a: a.reshape(-1)[:0],
    "no rows": lambda a: a[:0] if a.ndim else a[None][:0],
    "cut": lambda a: a[:-1] if a.ndim else a[None],
    "longer": lambda a: np.concatenate([np.atleast_1d(a), np.atleast_1d(a)[-1:]]),
    "turned": lambda a: a.T if a.ndim != 2 or a.shape[0] != a.shape[1] else a[:, 1:],
    "a column less": lambda a: a[:, :-1] if a.ndim == 2 else a[:-1] if a.ndim else a[None],
    "the other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "in columns": lambda a: np.asfortranarray(a) if a.ndim else a,
}
FLOATS: dict[str, Callable[[Array], Array]] = {
    "NaN": lambda a: filled(a, np.nan),
    "all NaN": lambda a: np.full_like(a, np.nan),
    "infinity": lambda a: filled(a, np.inf),
    "too large for its type": lambda a: filled(a.astype(np.float64), 1e300) if a.dtype == np.float32 else a,
    "twice as wide": lambda a: a.astype(np.float64),
}
WHOLE: dict[str, Callable[[Array], Array]] = {
    "floats": lambda a: a.astype(np.float64),
    "negative": lambda a: -a - 1,
    "one negative": lambda a: filled(a, -1) if a.dtype != np.uint8 else a.astype(np.int64) - 1,
    "huge": lambda a: filled(a.astype(np.int64), 2**62),
    "one too large": lambda a: a + 1 if a.dtype != np.uint8 else a | 0x80,
    "all the same": lambda a: np.full_like(a, a.flat[0]) if a.size else a,
    "backwards": lambda a: a if a.dtype == np.uint8 or len(np.unique(np.diff(a))) < 2 else np.sort(a)[::-1],
    "at random": lambda a: np.random.default_rng(0).integers(-(2**31), 2**31, a.shape),
}


def changes_of(name: str, array: Array) -> dict[str, Callable[[Array], Array]]:
    given = {**ANY, **(FLOATS if array.dtype.kind == "f" else WHOLE)}
    # Other letters, another moment, or other columns that exist, are another bundle that keeps its promises.
    kept = {"all the same", "backwards", "one too large", "at random"} if name.endswith((".bytes", "moment")) else (
        {"backwards", "one too large"} if name.endswith("_indices") else
        {"no rows"} if name == "predicted" else set()  # so it is where there are too few users to learn from
    )
    return {change: make for change, make in given.items() if change not in kept}


def test_every_array_that_is_written_is_one_that_is_checked(bundle: Path) -> None:
    assert set(arrays_of(bundle)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_array_is_a_named_error_or_gives_the_same_answers(bundle: Path, wanted: Array, name: str) -> None:
    arrays = arrays_of(bundle)
    array = arrays[name]
    for change, make in changes_of(name, array).items():
        sealed(bundle, packed({**arrays, name: make(array)}))
        refused_or_the_same(bundle, wanted, change)
    sealed(bundle, packed({other: array for other, array in arrays.items() if other != name}))
    assert f"called {name}" in refused(bundle)


def texts(*given: str) -> tuple[Array, Array]:
    encoded = [text.encode() for text in given]
    return np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([0, *map(len, encoded)])


def with_texts(name: str, given: list[str]) -> dict[str, Array]:
    data, offsets = texts(*given)
    return {f"{name}.bytes": data, f"{name}.offsets": offsets}


WRONG: dict[str, tuple[dict[str, Array], str]] = {
    "NaN in the metric": ({"metric": np.full((28, 28), np.nan, np.float32)}, "metric has 784 numbers that are not"),
    "identical users": (with_texts("user_ids", ["u00"] * 40), "user_ids repeats 39 of 40 names"),
    "identical items": (with_texts("item_ids", ["i00"] * 20), "item_ids repeats 19 of 20 names"),
    "an unknown identity": (with_texts("item_space_ids", [f"x{n}" for n in range(18)]), "names 18 that are not in"),
    "no JSON": (with_texts("user_attributes", ["{"] * 40), "user_attributes, row 0, is no JSON"),
    "deep JSON": (with_texts("user_attributes", ["[" * 100_000] * 40), "user_attributes, row 0, is no JSON"),
    "labels that are numbers": (with_texts("item_attributes", ["[1]"] * 20), "row 0, is no list of strings"),
    "offsets backwards": ({"user_ids.offsets": np.arange(41)[::-1] * 3}, "the offsets of user_ids do not divide"),
    "no text": ({"item_ids.bytes": np.full(60, 0xFF, np.uint8)}, "item_ids is no text"),
    "a place twice": ({"history_indices": np.zeros(240, np.int32)}, "history names a place twice"),
    "a column too far": ({"seen_indices": np.full(240, 20, np.int32)}, "columns 20 to 20, and there are 20"),
    "a crooked metric": ({"metric": np.triu(np.ones((28, 28), np.float32))}, "not symmetric"),
    "evidence below zero": ({"user_evidence": np.full(40, -1.0)}, "evidence must be counts"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_error_names_the_file_the_array_and_what_is_wrong(bundle: Path, wrong: str) -> None:
    changes, named = WRONG[wrong]
    sealed(bundle, packed({**arrays_of(bundle), **changes}))
    told = refused(bundle)
    assert named in told
    assert str(file_of(bundle)) in told


# -- the file ------------------------------------------------------------------------------------------


def with_header(content: bytes, header: str) -> bytes:
    """The archive with another header of the metric's array."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename == "metric.npy":
                data = data[:8] + len(header).to_bytes(2, "little") + header.encode() + data[128:]
            new.writestr(entry, data)
    return out.getvalue()


def compressed(content: bytes) -> bytes:
    out = io.BytesIO()
    with np.load(io.BytesIO(content)) as archive:
        np.savez_compressed(out, **dict(archive))
    return out.getvalue()


def doubled(content: bytes) -> bytes:
    out = io.BytesIO(content)
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "a") as new,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):  # fmt: skip
        new.writestr("metric.npy", old.read("metric.npy"))
    return out.getvalue()


FILES: dict[str, Callable[[bytes], bytes]] = {
    "no archive": lambda _: b"rubbish" * 100,
    "nothing": lambda _: b"",
    "cut": lambda content: content[:-500],
    "an empty archive": lambda _: b"PK\5\6" + bytes(18),
    "compressed": compressed,
    "an array twice": doubled,
    "a shape larger than any memory": lambda content: with_header(
        content, "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 28), }"
    ),
    "a negative shape": lambda content: with_header(
        content, "{'descr': '<f4', 'fortran_order': False, 'shape': (-28, -28), }"
    ),
    "a deep header": lambda content: with_header(content, "(" * 9_000),
    "a header of no sense": lambda content: with_header(content, "{'descr': os.system('x')}"),
    "records": lambda content: with_header(
        content, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (28, 28), }"
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_such_archive_is_refused(bundle: Path, kind: str) -> None:
    sealed(bundle, FILES[kind](file_of(bundle).read_bytes()))
    refused(bundle)


def test_bytes_changed_at_random_raise_nothing_but_a_bundle_error(bundle: Path) -> None:
    content = file_of(bundle).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        changed = bytearray(content)
        # Half of the changes are in the directory at the end, which says where what is.
        start = 0 if rng.random() < 0.5 else len(content) - 4_500
        for place in rng.integers(start, len(content), 3).tolist():
            changed[place] = int(rng.integers(256))
        sealed(bundle, bytes(changed))
        with contextlib.suppress(BundleError):
            HybridRecommender.load(bundle)


def test_erasing_counts_a_damaged_bundle_as_one_that_may_hold_the_entity(bundle: Path) -> None:
    assert bundles_with(bundle, "user", "u00") == [bundle.resolve()]
    assert bundles_with(bundle, "user", "nobody") == []
    file_of(bundle).write_bytes(b"rubbish")
    assert bundles_with(bundle, "user", "nobody") == [bundle.resolve()]


# -- the manifest --------------------------------------------------------------------------------------

OTHER_VALUES: tuple[Any, ...] = (..., None, "x", "", -1, 0, 1.5, 10**400, True, [], {}, ["x"], {"x": 1})


def test_a_changed_entry_of_the_manifest_is_an_error_or_gives_the_same_answers(bundle: Path, wanted: Array) -> None:
    sound = (bundle / "manifest.json").read_text()
    for name in json.loads(sound):
        for value in OTHER_VALUES:
            (bundle / "manifest.json").write_text(sound)
            if name == "manifest_sha256":
                continue
            sealed(bundle, **{name: value})
            if name == "parameters" and value == {}:  # all by default, as in a bundle that does not know them yet
                HybridRecommender.load(bundle)
            else:
                refused_or_the_same(bundle, wanted)


@pytest.mark.parametrize(
    "value", ["x", [], {}, True, 10**400, float("nan"), -(10**400), [1]],
    ids=["text", "list", "mapping", "boolean", "huge", "nan", "-huge", "list of one"],
)
def test_a_parameter_that_is_none_is_refused(bundle: Path, value: Any) -> None:
    parameters = json.loads((bundle / "manifest.json").read_text())["parameters"]
    for name in parameters:
        if (name, value) in (("source", {}), ("exclusions", [])):
            continue
        sealed(bundle, parameters={**parameters, name: value})
        refused(bundle)


def test_a_count_that_is_not_that_of_the_arrays_is_refused(bundle: Path) -> None:
    sealed(bundle, users=41)
    assert "its users are 41, those of the arrays 40" in refused(bundle)


def test_a_deep_or_huge_manifest_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundle / "manifest.json"
    sound = path.read_text()
    for depth in (500, 900, 100_000):
        path.write_text(sound.replace('"format"', f'"note": {"[" * depth}{"]" * depth}, "format"', 1))
        refused(bundle)
    path.write_text(sound.replace('"users": 40', f'"users": {"9" * 10_000}'))
    refused(bundle)
    monkeypatch.setattr(bundle_module, "_MOST_MANIFEST", 1_000)
    path.write_text(sound)
    assert "is damaged: it has" in refused(bundle)
