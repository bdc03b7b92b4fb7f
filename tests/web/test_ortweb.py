"""onnxruntime-web comes checked or not at all, and every failure says what to do."""

import hashlib
import io
import shutil
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gleanet.core.errors import BadInput, DataError
from gleanet.web.ortweb import FILES, VARIABLE, VERSION, find_ort, setup_ort, unpack_package

NAMES = ("package.json", *FILES.values())
PACKAGE = f'{{"name": "onnxruntime-web", "version": "{VERSION}"}}'.encode()


def member(name: str, content: bytes = b"content", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(f"package/{name}")
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def good() -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member(name, PACKAGE if name == "package.json" else name.encode()) for name in NAMES]


def archive(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLEANET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # urllib keeps the proxies of its first use, also those of another test
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """(url, sha512) of a good archive behind a real web server."""
    (tmp_path / "registry").mkdir()
    path = archive(tmp_path / "registry" / "ort.tgz", good())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(path.parent))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/ort.tgz", hashlib.sha512(path.read_bytes()).hexdigest()
        server.shutdown()
        thread.join()


def test_setup_gets_checks_and_unpacks_and_then_it_is_found(cache: Path, registry: tuple[str, str]) -> None:
    url, sha512 = registry
    with pytest.raises(BadInput, match="gleanet serve --setup"):
        find_ort()
    ort = setup_ort(url=url, sha512=sha512)
    assert (ort, ort.version) == (find_ort(), VERSION)
    assert sorted(path.relative_to(ort.folder).as_posix() for path in ort.folder.rglob("*") if path.is_file()) == sorted(NAMES)
    assert [path.name for path in cache.iterdir()] == [ort.folder.name]
    assert setup_ort(url="http://127.0.0.1:9/gone", sha512="0" * 128) == ort  # it is there: nothing is asked for


def test_another_archive_than_the_pinned_one_is_refused(cache: Path, registry: tuple[str, str]) -> None:
    url, _ = registry
    with pytest.raises(DataError, match=f"does not have the sha512 {'0' * 128}"):
        setup_ort(url=url, sha512="0" * 128)
    assert not list(cache.iterdir())


def test_without_a_network_it_says_what_to_put_where_and_that_works(cache: Path, registry: tuple[str, str], tmp_path: Path) -> None:
    _, sha512 = registry
    place = cache / f"onnxruntime-web-{VERSION}.tgz"
    with pytest.raises(DataError, match="cannot download") as caught:
        setup_ort(url="http://127.0.0.1:9/ort.tgz", sha512=sha512)
    message = str(caught.value)
    for words in ("http://127.0.0.1:9/ort.tgz", str(place), "--setup", f"npm install onnxruntime-web@{VERSION}", "--ort-web", VARIABLE):
        assert words in message
    shutil.copy(tmp_path / "registry" / "ort.tgz", place)
    assert setup_ort(url="http://127.0.0.1:9/ort.tgz", sha512=sha512).version == VERSION


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ([member("dist/ort.wasm.min.mjs", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")], "no plain file"),
        ([member("dist/ort.wasm.min.mjs", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")], "no plain file"),
        ([member("dist/ort.wasm.min.mjs", b"", type=tarfile.DIRTYPE)], "no plain file"),
        ([], r"lacks dist/ort\.wasm\.min\.mjs"),
        ([member("dist/ort.wasm.min.mjs"), member("dist/ort.wasm.min.mjs")], "no plain file of its own"),
    ],
)
def test_a_member_that_is_no_plain_file_refuses_all(tmp_path: Path, extra: list[tuple[tarfile.TarInfo, bytes]], words: str) -> None:
    rest = [one for one in good() if not one[0].name.endswith("ort.wasm.min.mjs")]
    path = archive(tmp_path / "bad.tgz", [*rest, *extra])
    with pytest.raises(DataError, match=words):
        unpack_package(path, tmp_path / "cache" / "ort")
    assert not list((tmp_path / "cache").iterdir())


def test_members_with_other_names_are_never_written(tmp_path: Path) -> None:
    names = ("../evil", "dist/../../evil", "dist/other.js", "package.json/evil")
    path = archive(tmp_path / "more.tgz", [*good(), *(member(name) for name in names)])
    unpack_package(path, tmp_path / "cache" / "ort")
    found = sorted(path.relative_to(tmp_path / "cache").as_posix() for path in tmp_path.joinpath("cache").rglob("*") if path.is_file())
    assert found == sorted(f"ort/{name}" for name in NAMES)


def test_a_broken_archive_leaves_nothing(tmp_path: Path) -> None:
    path = archive(tmp_path / "cut.tgz", good())
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"not a whole \.tgz"):
        unpack_package(path, tmp_path / "cache" / "ort")
    assert not list((tmp_path / "cache").iterdir())


def test_a_folder_that_is_given_must_hold_it(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"--ort-web is .* has no package\.json"):
        find_ort(tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(BadInput, match=f"{VARIABLE} is "):
        find_ort()
    unpack_package(archive(tmp_path / "good.tgz", good()), tmp_path / "ort")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ort"))
    assert find_ort().folder == tmp_path / "ort"
    for content, words in (('{"name": "lodash"}', "lodash"), ("[1]", "None"), ("not json", "cannot read")):
        (tmp_path / "ort" / "package.json").write_text(content)
        with pytest.raises(BadInput, match=words):
            find_ort()
