"""A file is whole or absent, whatever happens while it is written."""

import subprocess
import sys
from pathlib import Path

import pytest

from gleanet.core.errors import StoreError
from gleanet.core.files import replacing, write_bytes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_replaces_the_target_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.json"
    write_bytes(target, b"one")
    write_bytes(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(target.parent) == ["file.json"]
    assert target.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_target_untouched(tmp_path: Path, failure: type[BaseException]) -> None:
    target = tmp_path / "file.json"
    write_bytes(target, b"before")

    def half_a_write() -> None:
        with replacing(target) as temporary:
            temporary.write_bytes(b"half of")
            raise failure

    with pytest.raises(failure):
        half_a_write()
    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["file.json"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"cannot write .*file/inside/run.json: "):
        write_bytes(tmp_path / "file" / "inside" / "run.json", b"x")


FILL_THE_DISK = """
import resource, sys
from pathlib import Path
from gleanet.core.errors import StoreError
from gleanet.core.files import write_bytes

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_bytes(Path(sys.argv[1]), b"x" * 100_000)
except StoreError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits to simulate a full disk with")
def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    write_bytes(target, b"old")
    done = subprocess.run([sys.executable, "-c", FILL_THE_DISK, str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.strip() == f"cannot write {target}: File too large"
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["model.onnx"]
