"""Deployment forms of an ONNX classifier: what it takes, what it gives, how many images at a time. What it computes stays the same."""

import onnx

from gleanet.core.errors import ExportError, SettingsError
from gleanet.core.records import Preprocess
from gleanet.export.batch import Batch, set_batch
from gleanet.export.edit import image_input, opset
from gleanet.export.heads import Output, set_output
from gleanet.export.pixels import Input, Layout, layout_of, set_layout, set_preprocess, take_floats, take_pixels

_MIN_OPSET = 7  # the oldest that ONNX Runtime promises to run
_CHOICES = {"input": ("float", "uint8"), "output": ("logits", "softmax", "argmax"), "layout": ("NCHW", "NHWC")}


def reform(
    model: onnx.ModelProto,
    *,
    input: Input | None = None,
    output: Output | None = None,
    batch: Batch | None = None,
    layout: Layout | None = None,
    preprocess: Preprocess | None = None,
) -> onnx.ModelProto:
    """A copy of ``model`` in another form; the same form twice gives the same model. None leaves a side as it is.

    Args:
        model: any ONNX classifier with one image input, float or quantized (QDQ or integer operators), ours or not. Its first output
            holds the scores; others stay.
        input: "uint8": pixels, with the normalisation inside; "float": the reverse, for what was made so here.
        output: "logits" [N, K]; "softmax", probabilities [N, K]; "argmax", the class, int64 [N], the first of equal ones. A softmax or
            argmax that the model has already is used, or cut off.
        batch: images per call, all shapes static; or "dynamic".
        layout: of the input, "NCHW" or "NHWC" (as cameras give it).
        preprocess: how pixels become the network's input; default: as the metadata says. With float input it goes into the metadata.

    Returns:
        a model with one output of the wanted kind, names of layers and weights unchanged, metadata that says what is true now.

    Raises:
        SettingsError: an unknown form, a batch below 1, uint8 input without known normalisation.
        ModelError: not one input, or ONNX Runtime refuses the model.
        ExportError: the form cannot be had; says which node or tensor is in the way.
    """
    _check(batch, {"input": input, "output": output, "layout": layout})
    made = onnx.ModelProto()
    made.CopyFrom(model)
    value = image_input(made.graph)
    if opset(made) < _MIN_OPSET:
        raise ExportError(f"the model has opset {opset(made)}: ONNX Runtime runs {_MIN_OPSET} and newer, export it anew")
    if layout is not None:
        set_layout(made, layout)
    if input == "float":
        take_floats(made)
    elif input == "uint8" or (preprocess is not None and value.type.tensor_type.elem_type == onnx.TensorProto.UINT8):
        take_pixels(made, preprocess)
    if preprocess is not None and value.type.tensor_type.elem_type != onnx.TensorProto.UINT8:
        set_preprocess(made, preprocess, layout_of(made))
    if output is not None:
        set_output(made, output)
    if batch is not None:
        set_batch(made, batch)
    if made.graph != model.graph:
        del made.graph.value_info[:]  # what was inferred of the old form
        made.ir_version = max(made.ir_version, 4)  # before, every constant had to be an input too
    return made


def _check(batch: Batch | None, wanted: dict[str, str | None]) -> None:
    for name, value in wanted.items():
        if value is not None and value not in _CHOICES[name]:
            raise SettingsError(f"{name} must be {' or '.join(_CHOICES[name])}, got {value!r}")
    if batch is not None and batch != "dynamic" and (not isinstance(batch, int) or isinstance(batch, bool) or batch < 1):
        raise SettingsError(f"batch must be a number of images, at least 1, or dynamic, got {batch!r}")
