"""An open file, whichever runtime opened it: what it takes, and how to run it."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import BadInput, ModelError

StrPath = str | os.PathLike[str]

# "[ONNXRuntimeError] : 1 : FAIL : Load model from x.onnx failed:/onnxruntime_src/core/graph.cc:1617 void onnxruntime::f() "
_PREAMBLE = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed: ?)?|^Load model from .*? failed: ?|/onnxruntime_src/\S+ [^)]*\) "
)
_CHANNELS = (1, 3, 4)  # grey, colour, colour with transparency


def one_line(error: BaseException | str, limit: int = 200) -> str:
    """The message of ``error`` without line breaks and without what ONNX Runtime puts before it, cut to ``limit`` characters."""
    text = _PREAMBLE.sub("", " ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


@dataclass(frozen=True)
class Session:
    """A model with one image input, open in a runtime.

    Attributes:
        path: the file it came from.
        dtype: numpy type of the input; ``shape`` its shape, None where a dimension is free.
        output: name of what holds the logits: the first output of floating-point numbers, else the first of whole ones.
        compute: the runtime's call: images as the file takes them -> ``output``.
        errors: what ``compute`` raises when the runtime refuses; ``explain`` says one of them in one line.
        gives_class: ``output`` is the class itself, an integer [N], instead of scores.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    output: str
    compute: Callable[[NDArray[Any]], NDArray[Any]]
    errors: tuple[type[Exception], ...]
    explain: Callable[[BaseException], str] = one_line
    gives_class: bool = False

    @property
    def batch(self) -> int | None:
        """The batch size the file demands, None when any will do."""
        return self.shape[0] if self.shape else None

    @property
    def layout(self) -> str:
        """NHWC where the file has four dimensions and the last is one of 1, 3 or 4 channels while the second is not, else NCHW."""
        return "NHWC" if len(self.shape) == 4 and self.shape[3] in _CHANNELS and self.shape[1] not in _CHANNELS else "NCHW"

    @property
    def side(self) -> int | None:
        """Side of the square images it takes, in pixels; None where the file leaves it open, or takes other images."""
        sizes = self.shape[1:3] if self.layout == "NHWC" else self.shape[2:]
        return sizes[0] if len(self.shape) == 4 and sizes[0] == sizes[1] else None

    def run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Logits [N, K] float32 of ``images`` [N, ...] in the model's own input type.

        Raises:
            ModelError: another type than the file takes, the runtime refuses, for instance because of another shape, or its answer is not
                one row for each image.
        """
        if images.dtype != self.dtype or not self.takes(images.shape):
            raise self._refused(images, f"it takes {self.dtype} [{', '.join('?' if s is None else str(s) for s in self.shape)}]")
        try:
            logits = self.compute(images)
        except self.errors as error:
            raise self._refused(images, self.explain(error)) from error
        if not logits.size or not logits.ndim or logits.shape[0] != len(images):
            given = f"input {images.dtype} {list(images.shape)}"
            raise ModelError(
                f"{self.path} answers {given} with output {self.output!r} {list(logits.shape)}: a classifier gives [images, classes]"
            )
        return logits.reshape(len(images), -1).astype(np.float32, copy=False)

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether images of this shape [N, ...] fit."""
        return len(shape) == len(self.shape) and all(own in (None, given) for own, given in zip(self.shape, shape, strict=True))

    def image_shape(self, given: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Shape of one image; free dimensions are taken from ``given``.

        Raises:
            BadInput: a dimension is free and ``given`` does not say what it is.
        """
        own = self.shape[1:]
        if given is not None and self.layout == "NHWC" and len(given) == 3 and given[2] != own[2]:
            given = (given[1], given[2], given[0])
        if given is not None and len(given) == len(own):
            return tuple(g if s is None else s for s, g in zip(own, given, strict=True))
        if any(s is None for s in own):
            raise BadInput(f"{self.path} leaves the image size open ({list(own)}): give images, or export it with a fixed size")
        return tuple(s for s in own if s is not None)

    def _refused(self, images: NDArray[Any], why: str) -> ModelError:
        return ModelError(f"{self.path} does not run on input {images.dtype} {list(images.shape)}: {why}")
