"""The server answers the page's own addresses to GET and HEAD, and nothing else to anybody."""

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gleanet.core.errors import BadInput
from gleanet.web import Site, SiteServer, open_server
from gleanet.web.server import is_loopback

SECRET = b"not for you"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SiteServer]:
    inside = tmp_path / "run"
    inside.mkdir()
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (inside / "secret.txt").write_bytes(SECRET)
    (inside / "model.onnx").write_bytes(b"model" * 100_000)
    (inside / "link.onnx").symlink_to(tmp_path / "secret.txt")
    site = Site({"index.html": b"<p>hello", "models/a.onnx": inside / "model.onnx", "gone.js": inside / "gone.js"}, ())
    with open_server(site) as opened:
        thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


def ask(server: SiteServer, method: str, target: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    """The target is sent as it is, as a client with bad intentions would."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.putrequest(method, target, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_its_own_addresses_come_with_type_length_and_headers(server: SiteServer) -> None:
    for target, body, kind in (
        ("/", b"<p>hello", "text/html; charset=utf-8"),
        ("/index.html?x=1#y", b"<p>hello", "text/html; charset=utf-8"),
        ("/models/a.onnx", b"model" * 100_000, "application/octet-stream"),
    ):
        response, found = ask(server, "GET", target)
        assert (response.status, found, response.headers["Content-Type"]) == (200, body, kind)
        assert response.headers["Content-Length"] == str(len(body))
        assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
        assert "http" not in policy
        head, nothing = ask(server, "HEAD", target)
        assert (head.status, nothing, head.headers["Content-Length"]) == (200, b"", str(len(body)))


@pytest.mark.parametrize(
    "target",
    [
        "/secret.txt",
        "/../secret.txt",
        "/models/../secret.txt",
        "/models/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/models/%252e%252e/secret.txt",
        "/..\\secret.txt",
        "//secret.txt",
        "/link.onnx",
        "/models/link.onnx",
        "/models/",
        "/models/a.onnx/",
        "/models/./a.onnx",
        "/index.html%00.png",
        "/gone.js",
        "//[",
    ],
)
def test_nothing_else_is_there(server: SiteServer, target: str, tmp_path: Path) -> None:
    response, body = ask(server, "GET", target)
    assert response.status == 404
    assert SECRET not in body
    assert ask(server, "GET", f"{tmp_path}/secret.txt")[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "BREW"])
def test_only_get_and_head(server: SiteServer, method: str) -> None:
    response, _ = ask(server, method, "/")
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"


def test_a_name_that_is_not_this_machine_is_refused(server: SiteServer) -> None:
    """A web page elsewhere may point its own name at 127.0.0.1 (DNS rebinding) and read what is served."""
    port = server.server_address[1]
    for host in (f"evil.example:{port}", "evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example", "192.0.2.1"):
        assert ask(server, "GET", "/", Host=host)[0].status == 421, host
    for host in (f"localhost:{port}", "localhost", f"127.0.0.1:{port}", "127.0.0.1", "[::1]", f"[::1]:{port}"):
        assert ask(server, "GET", "/", Host=host)[0].status == 200, host


def test_a_reader_that_hangs_up_does_no_harm(server: SiteServer, capsys: pytest.CaptureFixture[str]) -> None:
    for request in (b"GET /models/a.onnx HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET", b"\x16\x03\x01\x00\xff\xff\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10) as client:
            client.sendall(request)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # close with a reset
    assert ask(server, "GET", "/")[0].status == 200
    assert capsys.readouterr().err == ""


def test_an_address_that_cannot_be_had_is_one_line(server: SiteServer) -> None:
    port = server.server_address[1]
    with pytest.raises(BadInput, match=f"port {port} of 127.0.0.1 is in use: .*--port"):
        open_server(Site({}, ()), port=port)
    with pytest.raises(BadInput, match=r"cannot listen on 192\.0\.2\.1"):
        open_server(Site({}, ()), host="192.0.2.1")
    with pytest.raises(BadInput, match="--port 70000"):
        open_server(Site({}, ()), port=70000)


def test_what_only_this_machine_can_reach() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.org", "")))
