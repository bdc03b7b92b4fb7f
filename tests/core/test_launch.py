"""What torchrun's variables say."""

import pytest

from gleanet.core.errors import SettingsError
from gleanet.core.launch import Launch, launch

SECOND_OF_FOUR = {
    "RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "host",
    "MASTER_PORT": "29500",
    "GROUP_WORLD_SIZE": "2",
}


def test_one_of_four_on_two_machines() -> None:
    found = launch(SECOND_OF_FOUR)
    assert found == Launch(rank=1, size=4, local_rank=1, local_size=2)
    assert found.nodes == 2
    assert "on every machine" in found.command("train --resume r")


def test_on_one_machine_the_command_can_be_pasted() -> None:
    assert Launch(0, 2, 0, 2).command("train --resume r") == "torchrun --nproc-per-node 2 -m gleanet train --resume r"


@pytest.mark.parametrize("missing", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_other_launchers_that_set_some_of_them_change_nothing(missing: str) -> None:
    assert launch({name: value for name, value in SECOND_OF_FOUR.items() if name != missing}) is None


def test_a_single_process_is_alone() -> None:
    assert launch({**SECOND_OF_FOUR, "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RANK": "first"}, "RANK is 'first'"),
        ({"RANK": "4"}, "RANK 4 of WORLD_SIZE 4"),
        ({"LOCAL_RANK": "2"}, "LOCAL_RANK 2 of 2"),
        ({"LOCAL_WORLD_SIZE": "3"}, "same --nproc-per-node"),
        ({"GROUP_WORLD_SIZE": "3"}, "same --nproc-per-node"),
    ],
)
def test_what_cannot_be_is_one_line(changes: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        launch({**SECOND_OF_FOUR, **changes})
    assert "\n" not in str(caught.value)
