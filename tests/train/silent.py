"""What tests/train/test_distributed.py starts with torchrun: the second process falls silent, and the first says what it sees.

torchrun --nproc-per-node 2 -m tests.train.silent
"""

import sys
import time
from datetime import timedelta

from gleanet.core.errors import PeerLost
from gleanet.core.launch import launch
from gleanet.train.distributed import connect

here = launch()
assert here is not None
team = connect("cpu", here, timeout=timedelta(seconds=2))
team.any(True)
if team.rank == 1:
    time.sleep(8)
else:
    try:
        team.any(True)
    except PeerLost as lost:
        sys.stdout.write(f"{lost}\n")
