"""Errors that a network's own code raises: one line that names the module and has the network's own message."""

from pathlib import Path

import torch
from torch import nn

_TORCH, _OURS = str(Path(torch.__file__).parent), str(Path(__file__).parents[1])


def failing_module(model: nn.Module, error: BaseException) -> str | None:
    """Path of the innermost module of ``model`` whose method raised ("" is the network itself); None where none did."""
    paths = {id(module): path for path, module in model.named_modules(remove_duplicate=False)}
    found = None
    traceback = error.__traceback__
    while traceback is not None:
        holder = traceback.tb_frame.f_locals.get("self")
        if isinstance(holder, nn.Module) and id(holder) in paths:
            found = paths[id(holder)]
        traceback = traceback.tb_next
    return found


def explain(model: nn.Module, error: BaseException) -> str:
    """One line: the module that failed, the line of the user's own code nearest to it, and the message."""
    place = ""
    traceback = error.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith((_TORCH, _OURS, "<")):
            place = f" at {file}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    path = failing_module(model, error)
    module = f", {path} ({type(model.get_submodule(path)).__name__})" if path else ""
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".;")
    return f"{type(model).__name__}{module}{place}: {first_line}"
