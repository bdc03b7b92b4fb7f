"""TOML files of the user's, read with a limit and with one line where something is wrong."""

import tomllib
from pathlib import Path
from typing import Any

from gleanet.core.errors import SettingsError

LIMIT = 2**14  # Python's TOML reader takes time with the square of how deep tables lie in tables


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        what: how errors call the file: "--config c.toml".

    Raises:
        SettingsError: it cannot be read, is longer than ``LIMIT`` bytes, or is not TOML.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise SettingsError(f"{what} is longer than {LIMIT:,} bytes: it should hold options by name")
        return tomllib.loads(data.decode())
    except OSError as error:
        raise SettingsError(f"cannot read {what}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number of a million digits, tables in tables without end
        raise SettingsError(f"{what} is not TOML: {error}") from error
