"""One voice for several processes: an error that all of them meet is shown once."""

import os
from datetime import timedelta

import torch.distributed as dist


def first_to_speak() -> bool:
    """Whether this is the first of the processes of a run that has an error to show; the others then stay silent.

    Asks the store that torchrun keeps, so that there is an answer also when the process of rank 0 is the one that died. True where the
    store cannot be reached.
    """
    given = os.environ
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            given["MASTER_ADDR"], int(given["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=5), wait_for_workers=False
        )
        asked = store.add(f"gleanet/spoken/{given.get('TORCHELASTIC_RUN_ID')}/{given.get('TORCHELASTIC_RESTART_COUNT')}", 1)
    except RuntimeError:
        return True
    return bool(asked == 1)
