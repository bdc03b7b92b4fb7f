"""Fixtures shared by every room."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets named by GLEANET_DATA; tests that need it skip where it is absent."""
    folder = os.environ.get("GLEANET_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("GLEANET_DATA names no folder of data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def shared_weights(shared_data: Path) -> Path:
    """The folder of public checkpoints beside the data; tests that need it skip where it is absent."""
    folder = shared_data.parent / "weights"
    if not folder.is_dir():
        pytest.skip("no weights folder beside GLEANET_DATA")
    return folder
