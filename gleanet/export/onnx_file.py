"""One ONNX file, checked against torch before it takes its place.

torch's ``torch.export``-based exporter is used: its graph is the cleanest and knows which module each node came from. Opset 18: the
exporter's own translations are written for it, so nothing is converted; it has all that 8-bit QDQ needs (13, for weights per channel);
every ONNX Runtime since 1.14 and onnxruntime-web read it.
"""

import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gleanet.core.errors import ExportError, ModelError, SettingsError
from gleanet.core.files import replacing
from gleanet.core.records import Preprocess
from gleanet.export.fold import fold_batch_norm
from gleanet.export.pixels import take_pixels
from gleanet.export.tidy import tidy
from gleanet.measure.accuracy import normalise
from gleanet.measure.activations import rewrite_activations
from gleanet.nn import architecture_of, has_architecture
from gleanet.nn.usable import clone, usable

OPSET = 18
IR_VERSION = 8  # the one that came with opset 18: nothing newer is used, so older runtimes can read the file
TOLERANCE = 1e-4
USUAL_LOGIT = 32.0  # beyond this size float32 itself cannot promise 1e-4, and the limit grows with the logits
CHECK_BATCH = 64


@dataclass(frozen=True)
class Exported:
    """The file, and the largest absolute difference of its logits from torch's on the check images."""

    path: Path
    max_abs_diff: float


def export_onnx(
    model: nn.Module,
    example_input: Tensor,
    path: str | Path,
    *,
    input: Literal["float", "uint8"] = "float",
    preprocess: Preprocess | None = None,
    classes: Sequence[str] = (),
    check: NDArray[Any] | None = None,
    activations: Literal["fast", "plain"] = "fast",
) -> Exported:
    """Write ``model`` as one ONNX file: batch-norms folded, batch size free, nodes named by module path.

    Args:
        model: a classifier, [N, C, H, W] float32 -> [N, K]. It is left as it was.
        example_input: [N, C, H, W] float32, any N >= 1; fixes C, H, W.
        path: where the file goes; an older one is replaced only by a checked one.
        input: what the file takes in its tensor "input": "float", normalised images; "uint8", pixels, with the normalisation in the graph.
        preprocess: how pixels become the network's input; goes into the metadata (float) or the graph (uint8).
            Default: that of the model's architecture record.
        classes: names in the order of the logits, for the metadata. Default: those of the architecture record.
        check: real images as the file takes them, float32 or uint8 [N, C, H, W], to compare with torch on. Default: the example.
        activations: "fast" writes Mish and its family with Exp (see :mod:`gleanet.measure.activations`); "plain" as torch writes them, with
            Softplus and Tanh, for runtimes that know this pattern.

    Returns:
        the path and the largest difference found: at most 1e-4, or 3e-6 of the largest logit where that exceeds 32.

    Raises:
        ExportError: torch cannot export it, or ONNX Runtime's logits differ from torch's; then no file is written.
        ModelError: the model does not take the example or does not give [N, K] logits.
        SettingsError: uint8 input without a way to normalise, or check images of the wrong type or shape.
        StoreError: the file cannot be written.
    """
    model = usable(model)
    record = architecture_of(model) if has_architecture(model) else None
    preprocess = preprocess if preprocess is not None or record is None else record.preprocess
    names = tuple(classes) or (record.classes if record is not None else ())
    if input not in ("float", "uint8"):
        raise SettingsError(f"input must be float or uint8, got {input!r}")
    if activations not in ("fast", "plain"):
        raise SettingsError(f"activations must be fast or plain, got {activations!r}")
    if input == "uint8" and preprocess is None:
        raise SettingsError("uint8 input needs the normalisation: give preprocess=Preprocess(mean=..., std=...)")
    reference = clone(model).cpu().float().eval()
    example = example_input.detach().cpu().float()
    images = _check_images(example, preprocess, input, check)
    proto = _to_onnx(reference, example)
    if activations == "fast":
        rewrite_activations(proto)
    if input == "uint8":
        assert preprocess is not None
        take_pixels(proto, preprocess)
    _stamp(proto, None if input == "uint8" else preprocess, names, record.factory if record is not None else type(model).__name__)
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))
        difference = _difference(reference, temporary, images, preprocess if input == "uint8" else None, Path(path))
    return Exported(path=Path(path), max_abs_diff=difference)


def _to_onnx(model: nn.Module, example: Tensor) -> onnx.ModelProto:
    """Fold, export, tidy."""
    try:
        folded = fold_batch_norm(model)
    except ModelError:
        folded = model  # not traceable: batch-norms stay nodes of their own, which runtimes fold when they load the file
    two = example[:1].repeat(2, *[1] * (example.dim() - 1))  # with a single image the exporter would take the batch size for a constant
    with torch.no_grad():
        try:
            logits = folded(two)
        except RuntimeError as error:
            raise ModelError(f"the network does not accept an input of shape {list(two.shape)}: {_first_line(error)}") from error
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != 2:
        shown = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f"not a classifier: for two images the network gives {shown}, expected logits [2, classes]")
    try:
        with _quiet():
            program = torch.onnx.export(
                folded,
                (two,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
    except Exception as error:  # the exporter runs the user's forward method and has many error classes without a common base
        raise ExportError(f"torch cannot export {type(model).__name__} to ONNX: {_first_line(error)}") from error
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    tidy(proto, {path for path, module in model.named_modules() if path and not list(module.children())})
    return proto


def _stamp(model: onnx.ModelProto, preprocess: Preprocess | None, classes: tuple[str, ...], name: str) -> None:
    """Who wrote it, format versions, metadata; in place. Then the checker's word."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "gleanet", _own_version()
    model.doc_string, model.domain, model.model_version = "", "", 0
    model.graph.name = name
    del model.functions[:]
    kept = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    if classes:
        model.metadata_props.add(key="gleanet.classes", value=json.dumps(list(classes), ensure_ascii=False))
    if preprocess is not None:
        model.metadata_props.add(key="gleanet.preprocess", value=json.dumps(asdict(preprocess)))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph is not valid ONNX: {_first_line(error)}") from error


def _check_images(example: Tensor, preprocess: Preprocess | None, kind: str, check: NDArray[Any] | None) -> NDArray[Any]:
    wanted = np.dtype(np.uint8 if kind == "uint8" else np.float32)
    if check is None:
        if kind == "float":
            return example.numpy()
        assert preprocess is not None
        return _pixels(example.numpy(), preprocess)
    if check.dtype != wanted or check.shape[1:] != tuple(example.shape[1:]) or len(check) == 0:
        raise SettingsError(
            f"check images must be {wanted} [N, {', '.join(map(str, example.shape[1:]))}], got {check.dtype} {list(check.shape)}"
        )
    return check


def _pixels(images: NDArray[np.float32], preprocess: Preprocess) -> NDArray[np.uint8]:
    """The nearest pixels that normalise to ``images``."""
    low, high = preprocess.range
    mean, std = (np.asarray(v, dtype=np.float64).reshape(1, -1, 1, 1) for v in (preprocess.mean, preprocess.std))
    return np.clip(np.rint((images * std + mean - low) * 255 / (high - low)), 0, 255).astype(np.uint8)


def _difference(model: nn.Module, file: Path, images: NDArray[Any], preprocess: Preprocess | None, target: Path) -> float:
    """Largest |ONNX Runtime - torch| over all check images in batches, and over the first one alone; raises ExportError above the limit."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its error classes share no base
        raise ExportError(f"ONNX Runtime {ort.__version__} refuses what was exported for {target}: {_first_line(error)}") from error
    batches = [images[i : i + CHECK_BATCH] for i in range(0, len(images), CHECK_BATCH)]
    batches.append(images[:1] if len(images) > 1 else np.repeat(images, 2, axis=0))
    worst = biggest = 0.0
    for batch in batches:
        ready = batch if preprocess is None else normalise(batch, preprocess)
        with torch.no_grad():
            expected = model(torch.from_numpy(np.ascontiguousarray(ready))).numpy()
        found = session.run(["logits"], {"input": np.ascontiguousarray(batch)})[0]
        if found.shape != expected.shape or not np.isfinite(found).all():
            raise ExportError(
                f"{target} not written: for {len(batch)} images ONNX Runtime gives {list(found.shape)} with non-finite or missing logits"
            )
        worst, biggest = max(worst, float(np.abs(found - expected).max())), max(biggest, float(np.abs(expected).max()))
    limit = TOLERANCE * max(1.0, biggest / USUAL_LOGIT)
    if not math.isfinite(worst) or worst > limit:
        raise ExportError(
            f"{target} not written: ONNX Runtime's logits differ from torch's by {worst:.3g} (limit {limit:.2g}) "
            f"on {len(images)} images; does the network behave randomly, or depend on the batch, in eval mode?"
        )
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch says about itself while it exports: an old torchvision hint and a deprecation inside torch's own pytree."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*", category=FutureWarning)
            yield
    finally:
        log.setLevel(level)


def _own_version() -> str:
    try:
        return version("gleanet")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return ""


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
