"""The training loop: batches of items, a judge that stops it, and checkpoints from which a killed run continues."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.backends import pack
from coldstart_udfs.encoder.derived import fingerprint_of
from coldstart_udfs.encoder.model_files import ModelFiles
from coldstart_udfs.encoder.modules import read_json
from coldstart_udfs.encoder.tuning.elsa import FEWEST, elsa_loss
from coldstart_udfs.encoder.tuning.networks import CHUNK_TOKENS, Tunable, encoded, open_tunable
from coldstart_udfs.encoder.tuning.settings import TuningSettings
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import staged
from coldstart_udfs.profile import Vectors

if TYPE_CHECKING:
    import torch

# Number of times that the judge is asked while an encoder is tuned.
_JUDGED = 10
# Users of one batch; of more, some are drawn.
_MOST_USERS = 4_096
# How many times as fast as float32 bfloat16 has to be.
_FASTER = 1.15

Rows: TypeAlias = NDArray[np.int64]
Tensors: TypeAlias = "dict[str, torch.Tensor]"
OnStep: TypeAlias = Callable[[int, Mapping[str, float]], None]
# Of (b, d) vectors and of (users, b) what users took, at least two in each row.
Loss: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"
Judge: TypeAlias = "Callable[[Vectors], float] | None"


@dataclass(frozen=True)
class TunedVectors:
    """What a tuning comes to; the model itself is in the folder.

    Attributes:
        before: (n, d), vectors of the texts under the parent, in float32.
        after: (n, d), under the tuned encoder.
        steps: number of steps of the chosen state; 0 if no step was better than none.
        planned: number of steps of the whole run.
        qualities: what the judge said, by step; that of step 0 is the parent's.
        seconds: of the loop and the judge, in this run.
        arithmetic: "float32" or "bfloat16".
    """

    before: Vectors
    after: Vectors
    steps: int
    planned: int
    qualities: dict[int, float]
    seconds: float
    arithmetic: str


def tune_encoder(
    files: ModelFiles, texts: Sequence[str], taken: sp.csr_matrix, out: Path, *,
    judge: Judge, loss: Loss = elsa_loss, settings: TuningSettings | None = None, static: bool = False,
    unfinished: Path | None = None, on_step: OnStep = lambda step, values: None, report: Report = no_report,
) -> TunedVectors:
    """Tune an encoder by which items the same users take, and write it as a sentence-transformers folder.

    Args:
        files: of the encoder that is tuned, the parent.
        texts: n descriptions of items; items without one have "".
        taken: (users, n), not 0 for what a user took. An item in which nobody has anything is not learned from, but
            has vectors, so that the judge can ask about it.
        out: the folder to write; it must not exist.
        judge: takes the (n, d) vectors of all texts; the state of which it returns the most is written. None: the last
            state is written.
        loss: what is made small.
        settings: how; None: the defaults.
        static: tune the table of token vectors of the backend `static` instead of the network.
        unfinished: a folder for checkpoints, from which the same call continues; it is removed at the end.
        on_step: called with the step and {"loss", "learning_rate"}, and where the judge was asked {"quality"}.
        report: called with (stage, done, total).

    Raises:
        ColdStartError: no user has two of the items, the model cannot be tuned, or the loss is not finite.
    """
    import torch

    settings = settings or TuningSettings()
    counts = np.bincount(taken.indices, minlength=len(texts))
    report("texts below the layers that learn", 0, 1)
    with torch.random.fork_rng(devices=[]):  # adapters begin with random numbers
        torch.manual_seed(settings.seed)
        model = open_tunable(files, texts, static=static, layers=settings.layers, adapters=settings.adapters)
    report("texts below the layers that learn", 1, 1)
    items = np.flatnonzero((counts > 0) & (model.lengths > 0))
    pairs = (taken[:, items] > 0).astype(np.float32).tocsr()
    if not (np.diff(pairs.indptr) >= FEWEST).any():
        raise ColdStartError(
            f"no user has {FEWEST} of the {len(items)} items with a description; an encoder learns from what the same "
            "users take, so give interactions of users with several items"
        )
    identity = _identity(files, texts, pairs, settings, static, loss)
    run = _Run(model, items, pairs, loss, settings, identity, unfinished)
    began = time.perf_counter()
    run.resume()
    before = encoded(model) if run.before is None else run.before
    run.learn(before, judge, on_step, report)
    seconds = time.perf_counter() - began
    run.take_best()
    after = encoded(model)
    model.save(out)
    return TunedVectors(before, after, run.best_step, run.planned, run.qualities, seconds, run.arithmetic)


class _Run:
    """The state of one run."""

    def __init__(
        self, model: Tunable, items: Rows, pairs: sp.csr_matrix, loss: Loss, settings: TuningSettings, identity: str,
        unfinished: Path | None,
    ) -> None:  # fmt: skip
        import torch

        self._model, self._items, self._pairs, self._settings = model, items, pairs, settings
        self._loss, self._identity, self._unfinished = loss, identity, unfinished
        self._learned = model.parameters()
        self._optimizer = torch.optim.AdamW(
            list(self._learned.values()), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.planned = settings.steps_for(len(model.lengths))
        self._best = self._copy()
        self._step, self.best_step = 0, 0
        self.qualities: dict[int, float] = {}
        self.before: Vectors | None = None
        self.arithmetic = settings.arithmetic

    def learn(
        self, before: Vectors, judge: Judge, on_step: OnStep, report: Report
    ) -> None:
        """Take the remaining steps; the judge is asked before the first and after every tenth part."""
        import torch

        self.before = before
        if self.arithmetic == "auto":
            self.arithmetic = "bfloat16" if self._faster_in_bfloat16() else "float32"
        if not self.qualities:
            self.qualities[0] = judge(before) if judge else 0.0
            on_step(0, {"quality": self.qualities[0]})
        asked = set(np.linspace(0, self.planned, min(_JUDGED, self.planned) + 1).round().astype(int).tolist())
        batches = _batches(len(self._items), self._settings.batch, self._settings.seed)
        for step, batch in zip(range(1, self.planned + 1), batches, strict=False):
            if step <= self._step:
                continue
            rate = self._settings.learning_rate * _share(step, self.planned, self._settings.warm_up)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._optimizer.zero_grad(set_to_none=True)
            loss = self._backward(batch, step)
            if not math.isfinite(loss):
                raise self._diverged(f"the loss is {loss}", step)
            torch.nn.utils.clip_grad_norm_(list(self._learned.values()), self._settings.clip)
            self._optimizer.step()
            self._step = step
            values = {"loss": loss, "learning_rate": rate}
            if step in asked:
                vectors = encoded(self._model)
                if not np.isfinite(vectors).all():
                    raise self._diverged("vectors are not finite", step)
                # Without a judge, later is better.
                self.qualities[step] = values["quality"] = judge(vectors) if judge else float(step)
                if self.qualities[step] > self.qualities[self.best_step]:
                    self._best, self.best_step = self._copy(), step
                self._write()
            on_step(step, values)
            report("steps", step, self.planned)

    def _diverged(self, what: str, step: int) -> ColdStartError:
        # Only `coldstart encoder tune` has the option.
        other = ", or --arithmetic float32" if self._loss is elsa_loss and self.arithmetic != "float32" else ""
        return ColdStartError(
            f"{what} at step {step}; give a smaller learning rate (--lr) than {self._settings.learning_rate:g}{other}"
        )

    def take_best(self) -> None:
        """Put the best state into the model."""
        import torch

        with torch.no_grad():
            for name, value in self._learned.items():
                value.copy_(self._best[name])

    def resume(self) -> None:
        """Take the state of an earlier run with the same data and settings, if there is one."""
        import torch
        from safetensors.torch import load_file

        if self._unfinished is None:
            return
        told = read_json(self._unfinished / "state.json")
        if not told or told["identity"] != self._identity:
            return
        tensors = load_file(self._unfinished / f"state-{told['step']}.safetensors")
        self._step, self.best_step, self.arithmetic = told["step"], told["best_step"], told["arithmetic"]
        self.qualities = {int(step): value for step, value in told["qualities"].items()}
        self.before = tensors.pop("before").numpy()
        with torch.no_grad():
            for name, value in self._learned.items():
                value.copy_(tensors[f"now.{name}"])
                self._best[name] = tensors[f"best.{name}"]
                self._optimizer.state[value] = {
                    key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                }

    def _write(self) -> None:
        from safetensors.torch import save_file

        if self._unfinished is None or self.before is None:
            return
        import torch

        tensors: Tensors = {"before": torch.from_numpy(self.before)}
        for name, value in self._learned.items():
            tensors |= {f"now.{name}": value.detach(), f"best.{name}": self._best[name]}
            tensors |= {f"{key}.{name}": state for key, state in self._optimizer.state[value].items()}
        told = {
            "identity": self._identity, "step": self._step, "best_step": self.best_step,
            "arithmetic": self.arithmetic, "qualities": self.qualities,
        }  # fmt: skip
        old = [*self._unfinished.glob("state-*.safetensors")]
        with staged(self._unfinished) as scratch:
            # The file that names the tensors is moved into place last.
            save_file({name: value.contiguous() for name, value in tensors.items()},
                      scratch / f"state-{self._step}.safetensors")  # fmt: skip
        with staged(self._unfinished) as scratch:
            (scratch / "state.json").write_text(json.dumps(told), encoding="utf-8")
        for path in old:
            path.unlink()

    def _copy(self) -> Tensors:
        return {name: value.detach().clone() for name, value in self._learned.items()}

    def _backward(self, batch: Rows, step: int) -> float:
        """Add the gradient of a batch, and return its loss.

        A batch with too many tokens to keep what its gradient needs passes twice: without gradients for the vectors,
        then in parts, each with the gradient of the loss by its vectors (Gao et al. 2021, Scaling Deep Contrastive
        Learning Batch Size under Memory Limited Setup, RepL4NLP, arXiv:2101.06983). The sum is that of one pass.
        """
        import torch

        taken = torch.from_numpy(self._taken(batch, step))
        if not len(taken):
            return 0.0
        rows = self._items[batch]
        parts = list(pack(self._model.lengths[rows], CHUNK_TOKENS))
        order = torch.from_numpy(np.concatenate(parts))
        taken = taken[:, order]
        if len(parts) == 1:
            loss = self._loss(self._vectors(rows[parts[0]]), taken)
            loss.backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())
        with torch.no_grad():
            whole = torch.cat([self._vectors(rows[part]) for part in parts])
        whole.requires_grad_(True)
        loss = self._loss(whole, taken)
        (gradient,) = torch.autograd.grad(loss, whole)
        for part, own in zip(parts, torch.split(gradient, [len(part) for part in parts]), strict=True):
            self._vectors(rows[part]).backward(own)  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _vectors(self, rows: Rows) -> torch.Tensor:
        import torch

        with torch.autocast("cpu", torch.bfloat16, enabled=self.arithmetic == "bfloat16"):
            return self._model.vectors(rows)

    def _taken(self, batch: Rows, step: int) -> NDArray[np.float32]:
        """(users, batch): what the users with at least two of these items took of them."""
        block = self._pairs[:, batch]
        users = np.flatnonzero(np.diff(block.indptr) >= FEWEST)
        if len(users) > _MOST_USERS:
            drawn = np.random.default_rng([self._settings.seed, 1, step])
            users = np.sort(drawn.choice(users, _MOST_USERS, replace=False))
        return np.asarray(block[users].toarray(), dtype=np.float32)

    def _faster_in_bfloat16(self) -> bool:
        """Whether a first batch, forward and backward, is computed faster in bfloat16."""
        batch = next(_batches(len(self._items), min(self._settings.batch, 128), self._settings.seed))
        seconds = {}
        for arithmetic in ("float32", "bfloat16", "float32", "bfloat16"):  # the first of each only warms up
            self.arithmetic = arithmetic
            began = time.perf_counter()
            self._backward(batch, 0)
            seconds[arithmetic] = time.perf_counter() - began
            self._optimizer.zero_grad(set_to_none=True)
        return seconds["float32"] > _FASTER * seconds["bfloat16"]


def _batches(items: int, size: int, seed: int) -> Iterator[Rows]:
    """Batches of different items, without end: every item once before any comes again, except where two passes meet."""
    size = min(size, items)
    number, waiting = 0, np.zeros(0, dtype=np.int64)
    while True:
        while len(waiting) < size:
            order = np.random.default_rng([seed, 0, number]).permutation(items)
            number += 1
            # An item that waits already comes later in the new pass, so that no batch has it twice.
            again = np.isin(order, waiting)
            waiting = np.concatenate([waiting, order[~again], order[again]])
        yield waiting[:size]
        waiting = waiting[size:]


def _share(step: int, steps: int, warm_up: float) -> float:
    """The learning rate at a step, as a share of the highest: a rise, then the half of a cosine that falls."""
    rising = max(1, round(warm_up * steps))
    if step <= rising:
        return step / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising + 1, 1)))


def _identity(
    files: ModelFiles, texts: Sequence[str], pairs: sp.csr_matrix, settings: TuningSettings, static: bool, loss: Loss
) -> str:
    """What a checkpoint belongs to."""
    digest = hashlib.blake2b(digest_size=16)
    told = [fingerprint_of(files, "torch"), replace(settings).as_json(), static, list(texts)]
    if loss is not elsa_loss:
        told.append(getattr(loss, "__name__", repr(loss)))
    digest.update(json.dumps(told).encode())
    for array in (pairs.indptr, pairs.indices):
        digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
    return digest.hexdigest()
