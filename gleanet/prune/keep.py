"""What the long steps of planning and refitting have found so far, in files: of a run that is killed, little is computed twice."""

import time
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gleanet.core.files import write_bytes

EVERY_S = 20.0
_OF = "gleanet.of"


class Keep:
    """Sets of tensors by name, each a file ``<name>.state``, written at most every 20 s: short work writes none.

    Args:
        folder: where the files lie.
        of: says what the work is done on and how; files that were kept of another work are not read.
    """

    def __init__(self, folder: Path, of: str) -> None:
        self._folder, self._of = folder, of
        self._pending: dict[str, dict[str, Tensor]] = {}
        self._written = time.monotonic()

    def read(self, name: str) -> dict[str, Tensor]:
        """What was kept under a name; empty where nothing was, or where the file is damaged or of another work."""
        try:
            with safe_open(self._folder / f"{name}.state", framework="pt") as file:
                if (file.metadata() or {}).get(_OF) != self._of:
                    return {}
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, SafetensorError):
            return {}

    def write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep this, all that there is under the name so far.

        Raises:
            StoreError: a file cannot be written.
        """
        self._pending[name] = dict(tensors)
        if time.monotonic() - self._written < EVERY_S:
            return
        for each, found in self._pending.items():
            plain = {key: tensor.detach().cpu().contiguous() for key, tensor in found.items()}
            write_bytes(self._folder / f"{each}.state", safetensors.torch.save(plain, metadata={_OF: self._of}))
        self._pending.clear()
        self._written = time.monotonic()


class Forget(Keep):
    """Nothing is kept."""

    def __init__(self) -> None:
        super().__init__(Path(), "")

    def read(self, name: str) -> dict[str, Tensor]:
        return {}

    def write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        return None


FORGET = Forget()
