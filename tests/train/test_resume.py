"""The saved state of a training: what it refuses, and in which words."""

from pathlib import Path

import pytest
import safetensors.torch

from gleanet.core.errors import CheckpointError
from gleanet.train import resume


def test_a_state_of_a_newer_version_is_not_called_damaged(tmp_path: Path) -> None:
    """Whoever is told that it is damaged deletes it."""
    file = tmp_path / "train.state"
    file.write_bytes(safetensors.torch.save({}, metadata={"gleanet.training": '{"format_version": 99}'}))
    with pytest.raises(CheckpointError, match=r"newer gleanet \(format 99.*: upgrade") as caught:
        resume.read(file, {})
    assert "delete" not in str(caught.value)
