import errno
import hashlib
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gleanet.core.errors import DataError
from gleanet.data.download import Archive, checksum, download, unpack
from gleanet.data.original import ORIGINALS, Original, load_original
from tests.data.tiny import cifar_python, tar_gz, tree

FILES = ORIGINALS["cifar10"].archive.files


@dataclass
class Site:
    """A real web server on loopback with one file; it understands Range, and can hang up early."""

    content: bytes
    url: str = ""
    ranges: list[str | None] = field(default_factory=list)
    hang_up_after: list[int] = field(default_factory=list)
    pause: float = 0.0  # seconds before it sends the file


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    cifar_python(tmp_path / "cifar-10-batches-py")
    tar_gz(tmp_path / "site.tar.gz", tree(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py"))
    served = Site(content=(tmp_path / "site.tar.gz").read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            served.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
            if self.path != "/data.tar.gz" or start >= len(served.content):
                self.send_error(404 if start == 0 else 416)
                return
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(served.content) - start))
            self.end_headers()
            time.sleep(served.pause)
            stop = start + served.hang_up_after.pop(0) if served.hang_up_after else None
            self.wfile.write(served.content[start:stop])

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}/data.tar.gz"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def _archive(site: Site) -> Archive:
    md5 = hashlib.md5(site.content, usedforsecurity=False).hexdigest()
    return Archive(file="data.tar.gz", url=site.url, md5=md5, folder="cifar-10-batches-py", files=FILES)


def _original(site: Site) -> Original:
    return replace(ORIGINALS["cifar10"], archive=_archive(site), whole=(50, 10))


def test_downloads_once_then_uses_the_cache(site: Site, cache: Path) -> None:
    first = load_original(_original(site), None)
    assert first.complete
    assert first.title == "CIFAR-10 original"
    assert (len(first.train), len(first.test)) == (50, 10)
    assert Path(first.source).is_relative_to(cache)
    load_original(_original(site), None)
    assert site.ranges == [None]


EIGHT = """
import sys, os
from dataclasses import replace
from pathlib import Path
from gleanet.data.download import Archive
from gleanet.data.original import ORIGINALS, load_original
url, md5, *files = sys.argv[1:]
archive = Archive(file="data.tar.gz", url=url, md5=md5, folder="cifar-10-batches-py", files=tuple(files))
original = replace(ORIGINALS["cifar10"], archive=archive, whole=(50, 10))
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        os._exit(0 if load_original(original, None).complete else 1)
    children.append(child)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork, and no lock to wait for")
def test_eight_processes_at_once_download_once(site: Site, cache: Path) -> None:
    site.pause = 0.3
    archive = _archive(site)
    command = [sys.executable, "-c", EIGHT, site.url, archive.md5, *FILES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0"] * 8, done.stderr
    assert site.ranges == [None]
    assert {path.name for path in cache.iterdir()} == {"data.tar.gz", "cifar-10-batches-py"}


def test_without_locks_each_download_has_a_part_of_its_own(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    (tmp_path / "data.tar.gz.part").write_bytes(b"of another process that is at work")
    assert download(_archive(site), tmp_path).read_bytes() == site.content
    assert (tmp_path / "data.tar.gz.part").read_bytes() == b"of another process that is at work"
    assert not list(tmp_path.glob("*.[0-9]*.part"))


def test_a_part_that_is_a_link_leaves_the_file_that_it_leads_to(site: Site, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "precious").write_bytes(b"x")
    (tmp_path / "d" / "data.tar.gz.part").symlink_to(tmp_path / "precious")
    assert download(_archive(site), tmp_path / "d").read_bytes() == site.content
    assert (tmp_path / "precious").read_bytes() == b"x"


def test_a_lost_connection_is_taken_up_where_it_broke(site: Site, tmp_path: Path) -> None:
    site.hang_up_after = [1000, 500]
    path = download(_archive(site), tmp_path / "d")
    assert path.read_bytes() == site.content
    assert site.ranges == [None, "bytes=1000-", "bytes=1500-"]
    assert [file.name for file in (tmp_path / "d").iterdir()] == ["data.tar.gz"]


def test_a_later_run_resumes_the_download(site: Site, tmp_path: Path) -> None:
    site.hang_up_after = [1000, 1, 1]
    with pytest.raises(DataError, match="connection lost after 1,002 of"):
        download(_archive(site), tmp_path / "d")
    assert download(_archive(site), tmp_path / "d").read_bytes() == site.content
    assert site.ranges[-1] == "bytes=1002-"


def test_a_part_of_another_file_does_not_block_the_download(site: Site, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "data.tar.gz.part").write_bytes(b"x" * (len(site.content) + 1))
    assert download(_archive(site), tmp_path / "d").read_bytes() == site.content


def test_a_wrong_checksum_leaves_nothing(site: Site, tmp_path: Path) -> None:
    wrong = replace(_archive(site), md5="0" * 32)
    with pytest.raises(DataError, match="have the md5 0000"):
        download(wrong, tmp_path / "d")
    assert list((tmp_path / "d").iterdir()) == []
    with pytest.raises(DataError, match=r"cifar10: .* does not have the md5 .*; put data\.tar\.gz"):
        load_original(replace(_original(site), archive=wrong), None)


def test_a_missing_page_is_one_line(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot download .*/elsewhere \(Not Found\)"):
        download(replace(_archive(site), url=site.url.replace("data.tar.gz", "elsewhere")), tmp_path / "d")


def test_an_archive_put_into_the_data_folder_is_used(site: Site, tmp_path: Path) -> None:
    original = replace(_original(site), archive=replace(_archive(site), url="http://127.0.0.1:9/"))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "data.tar.gz").write_bytes(site.content)
    assert load_original(original, tmp_path / "root").complete
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.tar.gz").write_bytes(site.content[:-1])
    folder = Path(load_original(original, tmp_path / "root").source)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"found, but not usable: .*data\.tar\.gz does not have the md5"):
        load_original(original, tmp_path / "other")


def test_an_archive_that_is_not_the_whole_set_is_refused(site: Site) -> None:
    with pytest.raises(DataError, match=r"was not the complete set: .*is incomplete: it holds 50 train"):
        load_original(replace(_original(site), whole=(60, 10)), None)


def _link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("../escaped"),
        tarfile.TarInfo("/tmp/escaped"),
        tarfile.TarInfo("top/../../escaped"),
        tarfile.TarInfo("top/deeper/a"),
        tarfile.TarInfo("elsewhere/a"),
        _link("top/b", "/etc/passwd", tarfile.SYMTYPE),
        _link("top/b", "../../x", tarfile.LNKTYPE),
        _link("top/b", "", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name} {member.linkname}",
)
def test_members_that_do_not_belong_refuse_the_archive(tmp_path: Path, member: tarfile.TarInfo) -> None:
    tar_gz(tmp_path / "a.tar.gz", {"top/a": b"1"}, [member])
    archive = Archive(file="a.tar.gz", url="", md5="", folder="top", files=("a", "b"))
    with pytest.raises(DataError, match="does not belong into top: nothing was unpacked"):
        unpack(tmp_path / "a.tar.gz", archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "escaped").exists()


def test_only_wanted_files_are_unpacked_and_all_must_be_there(tmp_path: Path) -> None:
    tar_gz(tmp_path / "a.tar.gz", {"top/a": b"1", "top/readme.html": b"2"})
    archive = Archive(file="a.tar.gz", url="", md5="", folder="top", files=("a",))
    assert [path.name for path in unpack(tmp_path / "a.tar.gz", archive, tmp_path / "out").iterdir()] == ["a"]
    with pytest.raises(DataError, match="lacks b"):
        unpack(tmp_path / "a.tar.gz", replace(archive, files=("a", "b")), tmp_path / "out")
    assert (tmp_path / "out" / "top" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("keep", [0, 15, 60, 120])
def test_a_truncated_archive_is_one_line(tmp_path: Path, keep: int) -> None:
    tar_gz(tmp_path / "a.tar.gz", {"top/a": bytes(range(256)) * 40})
    (tmp_path / "a.tar.gz").write_bytes((tmp_path / "a.tar.gz").read_bytes()[:keep])
    archive = Archive(file="a.tar.gz", url="", md5="", folder="top", files=("a",))
    with pytest.raises(DataError, match="remove it and try again"):
        unpack(tmp_path / "a.tar.gz", archive, tmp_path / "out")


def test_checksum_is_md5(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert checksum(tmp_path / "x") == "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321, A.5
