"""The processes that torchrun has started, for the commands that train; one process where it has not."""

from importlib.util import find_spec

from gleanet.core.errors import SettingsError
from gleanet.core.launch import launch
from gleanet.core.settings import Device
from gleanet.train.team import ALONE, Team

INSTALL = "pip install 'gleanet[distributed]'"


def assembled(device: Device) -> Team:
    """Wait for the other processes, and be one of them.

    Raises:
        SettingsError: Lightning Fabric is not installed, or there are fewer GPUs than processes.
        PeerLost: the others do not come.
    """
    found = launch()
    if found is None:
        return ALONE
    if find_spec("lightning_fabric") is None:
        raise SettingsError(f"{found.size} processes train together through lightning-fabric, which is not installed: {INSTALL}")
    from gleanet.train.distributed import connect

    return connect(device, found)
