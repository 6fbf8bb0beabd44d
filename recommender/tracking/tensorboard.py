"""Event files for TensorBoard."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from coldstart_udfs.errors import ColdStartError


class TensorBoardTracker:
    """Writes the event files of one run: metrics as curves, parameters and figures for the page HPARAMS, and as text.

    A file of the run is copied beside the event files, and the page TEXT names it.

    Args:
        folder: of this run; made where it is missing.

    Raises:
        ColdStartError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if find_spec("tensorboard") is None:
            raise ColdStartError(
                "--track tensorboard:DIR needs TensorBoard, which is missing: pip install 'feast-coldstart[track]'"
            )
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._writer = SummaryWriter(str(folder))
        self._parameters: dict[str, object] = {}
        self._figures: dict[str, float] = {}

    def parameters(self, values: Mapping[str, object]) -> None:
        """See `Tracker`."""
        self._parameters.update(values)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def figures(self, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._figures.update(values)

    def artifact(self, path: Path, name: str) -> None:
        """See `Tracker`."""
        shutil.copyfile(path, self._folder / name)
        self._writer.add_text("files", f"`{self._folder / name}`")

    def close(self, failed: bool) -> None:
        """See `Tracker`."""
        for title, values in (("parameters", self._parameters), ("figures", self._figures)):
            if values:
                rows = "".join(f"| {name} | {value} |\n" for name, value in values.items())
                self._writer.add_text(title, f"| name | value |\n|---|---|\n{rows}")
        told = {
            name: value if isinstance(value, bool | int | float) else str(value)
            for name, value in self._parameters.items()
        }
        # Into this folder, and with the figures as curves of one point, which the page HPARAMS reads.
        self._writer.add_hparams(told | {"failed": failed}, self._figures, run_name=".")
        self._writer.close()
