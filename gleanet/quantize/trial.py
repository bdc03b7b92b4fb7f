"""One method tried: its file written, opened, run on the first look of images, its nodes counted."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from gleanet.core.errors import GleanetError
from gleanet.core.files import write_bytes
from gleanet.core.records import Preprocess, Trial
from gleanet.core.stats import paired_change, sqnr_db, wilson
from gleanet.measure.runtime import one_line, optimized_graph, serialize
from gleanet.measure.runtimes import Candidate
from gleanet.quantize.calibrate import Statistics
from gleanet.quantize.evaluation import Block, Evaluation, predicted
from gleanet.quantize.insert import WEIGHTED, insert
from gleanet.quantize.methods import Method
from gleanet.quantize.pointwise import look_up
from gleanet.quantize.saturation import named, saturated_layers, strays

FLOAT_LAYERS = (*WEIGHTED, "FusedConv", "NhwcFusedConv", "FusedMatMul")
INTEGER_LAYERS = ("QLinearConv", "QGemm", "QLinearMatMul", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
BLOCKED = "_nchwc"  # what the runtime adds to the name of a float convolution in blocks of channels
MOST_DB = 200.0  # JSON knows no infinity


@dataclass(frozen=True)
class Source:
    """The float model and what all methods share: it is calibrated once."""

    path: Path
    model: onnx.ModelProto
    prepared: onnx.ModelProto
    statistics: Statistics
    samples: NDArray[Any]  # some calibration images, as the file takes them
    evaluation: Evaluation
    preprocess: Preprocess | None = None  # of the file's metadata: normalises pixels when the model takes float


@dataclass(frozen=True)
class Tried:
    """A trial, the file it is about, what the file is called after, and which images it has been judged on.

    Attributes:
        structure: files of the same structure do the same work, whatever their weights and scales: one is timed for all of them.
        hits: [N] bool, N images of the blocks seen so far.
        meant: [N] bool, the same of the float model.
    """

    trial: Trial
    method: Method
    file: Path | None = None
    structure: str = ""
    hits: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    meant: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    blocks: int = 0

    @property
    def candidate(self) -> Candidate:
        """The file with the runtime it was tried in; only where there is a file."""
        assert self.file is not None
        return Candidate(self.file, self.trial.runtime)


def attempt(source: Source, method: Method, folder: Path) -> Tried:
    """Write, open and run one method; a failure is a trial too."""
    try:
        model = insert(source.prepared, source.statistics.ranges(method.calibrator), method, source.model)
    except GleanetError as error:
        return failed(method, error)
    return judge_file(source, method, model, folder)


def judge_file(source: Source, method: Method, model: onnx.ModelProto, folder: Path) -> Tried:
    """The same for a quantized model that is made already."""
    file, first = folder / f"{method.name}.onnx", source.evaluation.first
    model = look_up(model)
    try:
        write_bytes(file, serialize(model))
        logits = predicted(Candidate(file), first)
        ran = optimized_graph(file)
        note, layers = _saturation(source, file, first, logits)
    except GleanetError as error:
        return failed(method, error)
    trial = Trial(
        method=method.name,
        verdict="tried",
        reason=note,
        bytes=file.stat().st_size,
        agreement=float(np.mean(logits.argmax(axis=1) == first.logits.argmax(axis=1))),
        sqnr_db=min(sqnr_db(first.logits, logits), MOST_DB),
        nodes=dict(sorted(Counter(node.op_type for node in ran.node).items())),
        left_float=tuple((node.name or node.output[0]).removesuffix(BLOCKED) for node in ran.node if node.op_type in FLOAT_LAYERS),
        saturated=layers,
    )
    return seen(Tried(trial, method, file, structure(model)), first, logits)


def failed(method: Method, error: GleanetError) -> Tried:
    return Tried(Trial(method=method.name, verdict="failed", reason=one_line(error)), method)


def seen(tried: Tried, block: Block, logits: NDArray[np.float32]) -> Tried:
    """``tried`` with another block of images counted."""
    hits = np.concatenate([tried.hits, logits.argmax(axis=1) == block.labels])
    meant = np.concatenate([tried.meant, block.hits])
    trial = replace(tried.trial, accuracy=wilson(int(hits.sum()), len(hits)), change=paired_change(hits, meant))
    return replace(tried, trial=trial, hits=hits, meant=meant, blocks=tried.blocks + 1)


def structure(model: onnx.ModelProto) -> str:
    """A digest of the nodes and of the types and shapes of their constants: neither of values, nor of which constants are shared."""
    kinds = {tensor.name: f"{tensor.data_type}{list(tensor.dims)}" for tensor in model.graph.initializer}
    digest = hashlib.sha256()
    for node in model.graph.node:
        bare = onnx.NodeProto()
        bare.CopyFrom(node)
        bare.input[:] = [kinds.get(name, name) for name in node.input]
        digest.update(bare.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _saturation(source: Source, file: Path, block: Block, logits: NDArray[np.float32]) -> tuple[str, tuple[str, ...]]:
    """A note, and the layers, when the optimized run strays from what the file says, as sums that saturate make it do."""
    found = strays(file, block, logits)
    if found is None:
        return "", ()
    layers = saturated_layers(file, block.images)
    where = f" in {named(layers)}" if layers else ""
    return f"sums saturate on this CPU{where} (logits {found[0]:.0f} dB with runtime optimizations, {found[1]:.0f} dB without)", layers
