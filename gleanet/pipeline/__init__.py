from gleanet.pipeline.files import export as export
from gleanet.pipeline.files import measure as measure
from gleanet.pipeline.files import quantize_file as quantize_file
from gleanet.pipeline.inspect import inspect as inspect
from gleanet.pipeline.planning import latency_table as latency_table
from gleanet.pipeline.prune import prune as prune
from gleanet.pipeline.shrink import shrink as shrink
from gleanet.pipeline.train import train as train
