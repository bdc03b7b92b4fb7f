from gleanet.export.fold import fold_batch_norm as fold_batch_norm
from gleanet.export.formfile import reform_file as reform_file
from gleanet.export.forms import reform as reform
from gleanet.export.onnx_file import Exported as Exported
from gleanet.export.onnx_file import export_onnx as export_onnx
