"""``gleanet explain``: what docs/messages.md has to say about an error, where there is no browser and no network."""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from gleanet.cli import options as o
from gleanet.cli.terminal import print_json, print_text
from gleanet.core.errors import SettingsError, StoreError

# in a wheel beside this file, in the source tree where people read it
_PLACES = (Path(__file__).parent / "messages.md", Path(__file__).parents[2] / "docs" / "messages.md")
_SECTION = re.compile(r"^### (?P<slug>[a-z-]+)\n+(?P<text>.*?)(?=^##|\Z)", re.DOTALL | re.MULTILINE)


def explain(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="The word that ends the line of an error.")], json: o.Json = False
) -> int:
    """More about an error: what usually causes it, and what helps.

    Example: [bold]gleanet explain checkpoint-mismatch[/]
    """
    known = sections()
    if slug not in known:
        near = get_close_matches(slug, known, n=3, cutoff=0.4) or sorted(known)
        raise SettingsError(f"no message goes by {slug!r}: did you mean {', '.join(near)}?")
    if json:
        print_json({"slug": slug, "text": known[slug]})
    else:
        print_text(known[slug])
    return 0


def sections() -> dict[str, str]:
    """Slug -> its section of the page, without the heading.

    Raises:
        StoreError: the page is not there; the installation is damaged.
    """
    page = next((place for place in _PLACES if place.is_file()), None)
    if page is None:
        raise StoreError(f"{_PLACES[0]} is missing: install gleanet again")
    return {found["slug"]: found["text"].strip() for found in _SECTION.finditer(page.read_text(encoding="utf-8"))}
