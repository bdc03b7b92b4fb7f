"""``gleanet card``: the model card of a past run, for a hub or a colleague."""

from typing import Annotated

import typer

from gleanet.cli import options as o
from gleanet.cli.lookups import Root
from gleanet.cli.terminal import print_json, print_text
from gleanet.core import store
from gleanet.report import model_card, write_card


def card(
    run: Annotated[str, typer.Argument(help="Folder or id of a run, or the beginning of its id.")],
    write: Annotated[bool, typer.Option("--write", help="Write it as README.md beside the artefacts instead.")] = False,
    root: Root = store.RUNS,
    json: o.Json = False,
) -> int:
    """The model card of a run, in the format of the Hugging Face hub; finished runs have theirs already.

    Example: [bold]gleanet card runs/demo[/]
    """
    found = store.find(run, root=root)
    record = found.read()
    if write:
        path = write_card(record, found.folder)
        shown, text = {"card": str(path)}, f"card: {path}"
    else:
        text = model_card(record, [entry.name for entry in found.folder.iterdir()]).rstrip("\n")
        shown = {"card": text}
    if json:
        print_json(shown)
    else:
        print_text(text)
    return 0
