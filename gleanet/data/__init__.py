"""Data sets, in memory or streamed: found, read, checked, decoded, cached, batched."""

from gleanet.data.augment import crop_flip as crop_flip
from gleanet.data.cache import cache_dir as cache_dir
from gleanet.data.images import Dataset as Dataset
from gleanet.data.images import ImageSet as ImageSet
from gleanet.data.loader import as_input as as_input
from gleanet.data.loader import calibration as calibration
from gleanet.data.loader import epoch as epoch
from gleanet.data.loader import eval_batches as eval_batches
from gleanet.data.loader import to_input as to_input
from gleanet.data.registry import available as available
from gleanet.data.registry import load as load
from gleanet.data.stream import USUAL_SIZE as USUAL_SIZE
