"""A small HTTP server for one page. It answers the page's own addresses, from a table, and looks nothing up in the file system."""

import errno
import os
import re
import shutil
import socket
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path, PurePosixPath

from gleanet.core.errors import BadInput
from gleanet.web.site import TYPES, Site

# Only what comes from here, and WebAssembly; the blob is a dropped image. The page says the same itself, but for frame-ancestors.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",  # with the next: the page may share memory between threads
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
IDLE_S = 30  # a connection that says nothing for so long is closed
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


class SiteServer(ThreadingHTTPServer):
    """Serves a :class:`Site` until :meth:`shutdown`. ``url`` is where."""

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # on Windows it would share a port that is taken

    def __init__(self, site: Site, host: str, port: int) -> None:
        self.files: Mapping[str, bytes | Path] = site.files
        self.local = is_loopback(host)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.server_address[1]}/"

    def server_bind(self) -> None:
        """Without the name look-up of the base class, which can take seconds and is for nothing here."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(self.allow_reuse_address))
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()


def open_server(site: Site, host: str = "127.0.0.1", port: int = 0) -> SiteServer:
    """Bind the server; port 0 takes a free one.

    Raises:
        BadInput: the port is taken or not allowed, or the host is none of this machine.
    """
    try:
        return SiteServer(site, host, port)
    except OverflowError as error:
        raise BadInput(f"--port {port} is no port: give 0 (any free one) to 65535") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BadInput(f"port {port} of {host} is in use: choose another with --port, or 0 for any free one") from error
        if error.errno == errno.EACCES:
            raise BadInput(f"port {port} needs more rights: choose one above 1023 with --port, or 0 for any free one") from error
        raise BadInput(f"cannot listen on {host}, port {port} ({error.strerror or error}): give an address of this machine") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Handler(BaseHTTPRequestHandler):
    server: SiteServer
    server_version = "gleanet"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def __getattr__(self, name: str) -> object:
        """Any other method is answered like one word: the base class would say "not implemented", which is not the point."""
        if name.startswith("do_"):
            return self._refuse_method
        raise AttributeError(name)

    def _refuse_method(self) -> None:
        self.close_connection = True  # a body that nobody reads may follow
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n", "text/plain", body=True, Allow="GET, HEAD", Connection="close")

    def _answer(self, *, body: bool) -> None:
        if self.server.local and not self._asked_for_us():
            self._send(HTTPStatus.MISDIRECTED_REQUEST, b"this server answers for this machine only\n", "text/plain", body=body)
            return
        address = re.split(r"[?#]", self.path, maxsplit=1)[0].removeprefix("/") or "index.html"
        content = self.server.files.get(address)  # as it came, never decoded or resolved: what is not in the table is not there
        kind = TYPES.get(PurePosixPath(address).suffix, "application/octet-stream")
        if isinstance(content, bytes):
            self._send(HTTPStatus.OK, content, kind, body=body)
        elif content is None or not content.is_file():
            self._send(HTTPStatus.NOT_FOUND, b"there is no such file\n", "text/plain", body=body)
        else:
            self._send_file(content, kind, body=body)

    def _asked_for_us(self) -> bool:
        """A page elsewhere can point a name of its own at this machine (DNS rebinding); its requests carry that name."""
        host = self.headers.get("Host", "")
        name = host if host.endswith("]") or ":" not in host else host.rpartition(":")[0]
        return name in _LOCAL or is_loopback(name.strip("[]"))

    def _send_file(self, file: Path, kind: str, *, body: bool) -> None:
        with file.open("rb") as source:
            self._start(HTTPStatus.OK, os.fstat(source.fileno()).st_size, kind)
            if body:
                shutil.copyfileobj(source, self.wfile)

    def _send(self, status: HTTPStatus, content: bytes, kind: str, *, body: bool, **more: str) -> None:
        self._start(status, len(content), kind, **more)
        if body:
            self.wfile.write(content)

    def _start(self, status: HTTPStatus, length: int, kind: str, **more: str) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(length), **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def handle(self) -> None:
        """A reader that goes away in the middle is nobody's error."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not news."""
