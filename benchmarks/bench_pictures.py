"""Pictures of products: own text from a picture, product from a photo, and speed.

Writes its section of docs/explanation/pictures.md. DATA is a folder with `grocery-store`: products.parquet,
images.parquet and images/ (Klasson et al., WACV 2019, github.com/marcusklasson/GroceryStoreDataset, MIT licence).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import EXPLANATION, interleaved, made_by, table, write_between
from numpy.typing import NDArray

from coldstart_udfs import Encoder, ImageEncoder, PictureMap
from coldstart_udfs.encoder.images.reading import open_picture
from coldstart_udfs.profile import Vectors

PHOTOS, DRAWS, TOP, FOLDS = 3, 20, 10, 10
RIDGES = (0.03, 0.1, 0.3, 1.0)
SPEED = 64
# Products that are classes of ImageNet too.
KNOWN = {
    "Granny-Smith": "Granny Smith", "Banana": "banana", "Lemon": "lemon", "Orange": "orange", "Pineapple": "pineapple",
    "Pomegranate": "pomegranate", "Zucchini": "zucchini", "Cucumber": "cucumber", "Cabbage": "head cabbage",
    "Green-Bell-Pepper": "bell pepper", "Orange-Bell-Pepper": "bell pepper", "Red-Bell-Pepper": "bell pepper",
    "Yellow-Bell-Pepper": "bell pepper", "Brown-Cap-Mushroom": "mushroom",
}  # fmt: skip
PIXELS = {
    "(p - 127) / 128, as here": ((127.0,) * 3, (128.0,) * 3),
    "mean and deviation of ImageNet": ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4)),
    "p / 255": ((0.0,) * 3, (255.0,) * 3),
}


class NoClasses:
    """Stands for the image encoder where the names of classes are left out."""

    classifier = None

    def __init__(self, encoder: ImageEncoder) -> None:
        self.fingerprint, self.dimensions, self.name = encoder.fingerprint, encoder.dimensions, encoder.name


def main() -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    folder = parser.parse_args().data / "grocery-store"
    products, images = (pd.read_parquet(folder / f"{name}.parquet") for name in ("products", "images"))
    files = [folder / "images" / name for name in images.file]
    encoder, texts = ImageEncoder(), Encoder()
    vectors = encoder.encode(files)
    rows = [
        *_own_text(vectors, products, images, encoder, texts), *_products(vectors, images),
        *_known(products, images, files, encoder), _speed(files[:SPEED]),
    ]  # fmt: skip
    lines = table(("what", "measured", "beside it"), rows)
    print("\n".join(lines))
    about = f"{len(products)} products, {len(files):,} pictures; intervals are of 95 %."
    said = made_by("make bench-pictures", about, ("torch", "pillow", "sentence-transformers"))
    write_between(EXPLANATION / "pictures.md", "pictures", "\n".join([said, "", *lines]))


def _own_text(
    vectors: Vectors, products: pd.DataFrame, images: pd.DataFrame, encoder: ImageEncoder, texts: Encoder
) -> list[tuple[str, str, str]]:
    """Items without text: is their own text among the 10 nearest? Coarse classes are held out together."""
    classes = images.class_id.to_numpy()
    mean = np.stack([vectors[(classes == one) & (images.split != "test")].mean(axis=0) for one in products.class_id])
    pictures = (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)
    given = [f"{name.replace('-', ' ')}. {text}"
             for name, text in zip(products["name"], products.description, strict=True)]  # fmt: skip
    embedded = texts.encode(given)
    coarse, groups = pd.factorize(products.coarse)
    folds = np.array_split(np.random.default_rng(0).permutation(len(groups)), FOLDS)
    ways: dict[str, Any] = {
        "regression and names of classes": encoder, "regression alone": NoClasses(encoder),
        "names of classes alone": None,
    }  # fmt: skip
    result = []
    for name, eyes in ways.items():
        hits = np.zeros(len(products), dtype=bool)
        for fold in folds:
            held = np.isin(coarse, fold)
            if eyes is None:
                fitted = PictureMap.of_classes(encoder, texts)
            else:
                fitted = PictureMap.fit(
                    pictures[~held], [given[row] for row in np.flatnonzero(~held)], image_encoder=eyes, encoder=texts,
                    groups=coarse[~held].tolist(),
                )  # fmt: skip
            scores = fitted.predict(pictures[held]) @ embedded.T
            own = scores[np.arange(held.sum()), np.flatnonzero(held)]
            hits[held] = (scores > own[:, None]).sum(axis=1) < TOP
        low, high = _over_groups(hits.astype(float), coarse)
        what = f"own text among the {TOP} nearest of {len(products)}, coarse classes held out: {name}"
        result.append((what, f"{hits.mean():.3f} ({low:.3f} to {high:.3f})", f"chance {TOP / len(products):.3f}"))
        print(result[-1], flush=True)
    return result


def _products(vectors: Vectors, images: pd.DataFrame) -> list[tuple[str, str, str]]:
    """A photo taken in a shop: which product is it, from three other photos of each?"""
    classes, split = images.class_id.to_numpy(), images.split.to_numpy()
    asked, truth = vectors[split == "test"], classes[split == "test"]
    shots = [np.flatnonzero((split == "train") & (classes == one)) for one in np.unique(classes)]
    rng = np.random.default_rng(0)
    right: dict[str, list[NDArray[np.bool_]]] = {"nearest photo": [], "nearest mean": [], "ridge regression": []}
    for _ in range(DRAWS):
        chosen = np.concatenate([rng.choice(one, PHOTOS, replace=False) for one in shots])
        known, labels = vectors[chosen].astype(np.float64), classes[chosen]
        right["nearest photo"].append(labels[(asked @ known.T).argmax(axis=1)] == truth)
        means = np.stack([known[labels == one].mean(axis=0) for one in range(len(shots))])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        right["nearest mean"].append((asked @ means.T).argmax(axis=1) == truth)
        right["ridge regression"].append(_ridge(known, labels, asked).argmax(axis=1) == truth)
    result = []
    for name, found in right.items():
        share = np.mean(found, axis=0)
        low, high = _over_groups(share, truth)
        what = f"photo → product, {PHOTOS} photos a product, {DRAWS} draws: {name}"
        result.append((what, f"{share.mean():.3f} ({low:.3f} to {high:.3f})", f"chance {1 / len(shots):.3f}"))
    return result


def _ridge(known: NDArray[np.float64], labels: NDArray[np.int64], asked: Vectors) -> NDArray[np.float64]:
    """Scores (asked, products) of a ridge regression on products; λ has the most photos right when each is left out."""
    mean = known.mean(axis=0)
    centred = known - mean
    gram, targets = centred @ centred.T, np.eye(labels.max() + 1)[labels]
    targets -= targets.mean(axis=0)

    def left_out(ridge: float) -> float:
        hat = gram @ np.linalg.inv(gram + ridge * np.eye(len(gram)))
        scores = targets - (targets - hat @ targets) / (1 - np.diag(hat))[:, None]
        return float((scores.argmax(axis=1) == labels).mean())

    ridge = max(RIDGES, key=left_out)
    weights = np.linalg.solve(gram + ridge * np.eye(len(gram)), targets)
    return np.asarray((asked - mean) @ centred.T @ weights)


def _known(
    products: pd.DataFrame, images: pd.DataFrame, files: list[Path], encoder: ImageEncoder
) -> list[tuple[str, str, str]]:
    """How often the likeliest of ImageNet's classes is right, by how pixels are scaled."""
    import torch

    network = encoder._loaded
    listed = network.classifier.names
    names = dict(zip(products.class_id, products["name"], strict=True))
    rows = [row for row, one in enumerate(images.class_id) if names[one] in KNOWN]
    wanted = [listed.index(KNOWN[names[images.class_id[row]]]) for row in rows]
    pixels = np.stack([network.prepare(open_picture(files[row].read_bytes())) for row in rows]).astype(np.float32)
    result = []
    for name, (mean, deviation) in PIXELS.items():
        scaled = (pixels - np.reshape(mean, (3, 1, 1))) / np.reshape(deviation, (3, 1, 1))
        with torch.inference_mode():
            parts = [network._network(torch.from_numpy(part).float()).numpy() for part in np.array_split(scaled, 8)]
        features = np.vstack(parts)
        scores = features @ (network.classifier.weights.T / 10.0) + network.classifier.bias
        right = float((scores.argmax(axis=1) == np.array(wanted)).mean())
        result.append((f"{len(rows)} pictures of {len(KNOWN)} products that ImageNet has: pixels as {name}",
                       f"{right:.3f} have the right class", "of 1,000"))  # fmt: skip
    return result


def _speed(files: list[Path]) -> tuple[str, str, str]:
    """Pictures a second from their files, beside the network alone on pixels that are prepared."""
    contents = [file.read_bytes() for file in files]
    encoder = ImageEncoder(cache=False)
    encoder.encode(contents[:2])
    network = encoder._loaded
    prepared = [network.prepare(open_picture(content)) for content in contents]

    def whole() -> None:
        fresh = ImageEncoder(cache=False)
        fresh._network = network
        fresh.encode(contents)

    def alone() -> None:
        for start in range(0, len(prepared), 32):
            network.encode(prepared[start : start + 32])

    seconds = interleaved({"whole": whole, "alone": alone})
    rates = {name: len(files) / each for name, each in seconds.items()}
    ratio = seconds["alone"] / seconds["whole"]
    return ("pictures a second, from JPEG files of 256 pixels", f"{rates['whole']:.1f}",
            f"{ratio:.2f} of the network's forward pass alone ({rates['alone']:.1f})")  # fmt: skip


def _over_groups(values: NDArray[np.float64], groups: NDArray[Any]) -> tuple[float, float]:
    """95 % interval of a mean, by drawing groups anew 2,000 times."""
    distinct = np.unique(groups)
    sums = np.array([values[groups == one].sum() for one in distinct])
    counts = np.array([(groups == one).sum() for one in distinct])
    drawn = np.random.default_rng(1).integers(0, len(distinct), (2_000, len(distinct)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (0.025, 0.975))
    return float(low), float(high)


if __name__ == "__main__":
    main()
