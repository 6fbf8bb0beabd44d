"""RecTools' LightFM wrapper, run in a separate environment: RecTools requires NumPy below 2 on Python 3.11.

This file is both sides: the imported module runs itself with the other Python, which has only RecTools and LightFM.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REQUIREMENTS = "rectools==0.19.0 lightfm-next==1.19.0"


def python() -> Path:
    """Return the Python of RecTools' environment, which is the folder `rectools` in this environment."""
    return Path(sys.prefix) / "rectools" / "bin" / "python"


def missing() -> str:
    """Return the reason why RecTools cannot run, or an empty string."""
    if python().is_file():
        return ""
    folder = python().parents[1]
    return (
        f"the environment {folder} does not exist; create it with `python -m venv {folder}` and "
        f"`{python()} -m pip install {_REQUIREMENTS}`"
    )


def vectors(
    train: Any, user_tokens: Any, item_tokens: Any, *, components: int, epochs: int, learning_rate: float, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return vectors of all users and items whose products are the scores.

    Args:
        train: sparse (users, items), 1 for pairs with an interaction.
        user_tokens: sparse (users, words), the weight of each word of a user's description.
        item_tokens: sparse (items, words), likewise of an item's.
        components: LightFM's latent dimensions.
        epochs: LightFM's passes over the interactions.
        learning_rate: LightFM's learning rate.
        seed: LightFM's seed.

    Raises:
        RuntimeError: RecTools failed; the message contains its error.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "asked.npz", Path(folder) / "answered.npz"
        given: dict[str, Any] = {"shape": train.shape, "components": components, "epochs": epochs,
                                 "learning_rate": learning_rate, "seed": seed}  # fmt: skip
        for name, matrix in (("train", train), ("user", user_tokens), ("item", item_tokens)):
            cells = matrix.tocoo()
            given[name] = np.stack(cells.coords).astype(np.int64)
            given[f"{name}_weights"] = cells.data
        np.savez(asked, **given)
        # -P: the other Python must not import the modules beside this file.
        command = [str(python()), "-P", "-W", "ignore", __file__, str(asked), str(answered)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise RuntimeError(f"RecTools failed: {result.stderr.strip()[-2000:]}")
        with np.load(answered) as arrays:
            return arrays["users"], arrays["items"]


def _run(asked: str, answered: str) -> None:
    import pandas as pd
    from lightfm import LightFM
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import LightFMWrapperModel

    with np.load(asked) as arrays:
        given = dict(arrays)
    n_users, n_items = given["shape"]
    train = pd.DataFrame(given["train"].T, columns=[Columns.User, Columns.Item])
    train[Columns.Weight], train[Columns.Datetime] = 1.0, pd.Timestamp("2020-01-01")
    features: dict[str, Any] = {}
    for side in ("user", "item"):
        frame = pd.DataFrame(given[side].T, columns=["id", "value"])
        if len(frame):
            frame = frame.assign(feature="token", weight=given[f"{side}_weights"])
            features |= {f"{side}_features_df": frame, f"cat_{side}_features": ["token"]}
    dataset = Dataset.construct(train, **features)
    model = LightFMWrapperModel(
        LightFM(
            no_components=int(given["components"]), loss="warp", learning_rate=float(given["learning_rate"]),
            random_state=int(given["seed"]),
        ),
        epochs=int(given["epochs"]),
    )  # fmt: skip
    user_vectors, item_vectors = model.fit(dataset).get_vectors(dataset)
    # For unknown users, RecTools ranks by the items' biases: the first columns are the bias and one.
    users, items = (np.zeros((n, user_vectors.shape[1]), np.float32) for n in (n_users, n_items))
    users[:, 1] = items[:, 0] = 1
    users[dataset.user_id_map.external_ids] = user_vectors
    items[dataset.item_id_map.external_ids] = item_vectors
    np.savez(answered, users=users, items=items)


if __name__ == "__main__":
    _run(*sys.argv[1:])
