"""The attribute table: what each framework is and offers, each cell with its source. The data are in ``attributes.toml``."""

import tomllib
from pathlib import Path

from gleanet.core.framework_entries import Attributes, Cell

FILE = Path(__file__).with_name("attributes.toml")


def attributes() -> Attributes:
    """The table of this version of gleanet."""
    data = tomllib.loads(FILE.read_text(encoding="utf-8"))
    names = {key: str(value) for key, value in data["attributes"].items()}
    frameworks = {
        str(framework["title"]): {key: Cell(*framework[key]) for key in names}  # a missing cell is a mistake, and fails here
        for framework in data["frameworks"].values()
    }
    return Attributes(names, frameworks)
