import os
from pathlib import Path

import pytest

from gleanet.core.errors import DataError
from gleanet.data.listing import EXTENSIONS, class_folders, listing


def _touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_come_class_after_class_in_the_order_of_their_paths(tmp_path: Path) -> None:
    root = tmp_path / "train"
    _touch(
        root, "b/z.png", "b/a.JPEG", "a-/1.jpg", "a/2.png", "a/10.png", "a/x/1.png", "a/x-/0.png", "a/.hidden.png", "a/notes.txt", "top.png"
    )
    _touch(tmp_path, "elsewhere/9.png")
    (root / "a" / "link.png").symlink_to(tmp_path / "elsewhere" / "9.png")
    (root / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "a" / "round").symlink_to(root)
    found = listing(root)
    expected = [
        path
        for folder in class_folders(root)
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file() and not p.name.startswith("."))
        if "round" not in path.parts
    ]
    assert list(found.paths()) == expected
    assert found.classes == ("a", "a-", "b")
    assert [found.classes[label] for label in found.labels] == [path.relative_to(root).parts[0] for path in expected]
    assert [found.path(row) for row in (2, 0, len(found) - 1)] == [expected[2], expected[0], expected[-1]]


def test_names_that_are_no_text_are_found_again(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path / "c") + b"/\xff\xe9 \n.png"
    (tmp_path / "c").mkdir()
    try:
        with open(odd, "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes no such name")
    assert os.fsencode(listing(tmp_path).path(0)) == odd


def test_the_digest_is_of_names_and_classes(tmp_path: Path) -> None:
    _touch(tmp_path / "one", "a/1.png", "a/2.png", "b/3.png")
    _touch(tmp_path / "same", "a/1.png", "a/2.png", "b/3.png")
    _touch(tmp_path / "other", "a/1.png", "b/2.png", "b/3.png")
    digests = [listing(tmp_path / name).digest() for name in ("one", "same", "other")]
    assert digests[0] == digests[1] != digests[2]


def test_a_class_without_images_is_an_error(tmp_path: Path) -> None:
    _touch(tmp_path, "a/1.png", "b/1.txt")
    with pytest.raises(DataError, match="b holds no images"):
        listing(tmp_path)
