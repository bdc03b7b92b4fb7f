"""The real command in a process of its own, forked from one that has imported the libraries: two seconds less for each of some hundred.

``run`` stands in for ``subprocess.run([python, "-m", "gleanet", ...])``. A child has its own standard streams, working folder and
variables, runs ``gleanet.cli.app.main`` as ``__main__`` does, and may crash, hang or be killed without harm to the others. What is tested
about imports, about how long a start takes, and about variables that Python or its libraries read while they start, needs a new
interpreter; it gets one where such a variable is given.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from gleanet.core.host import machine

READ_AT_START = ("PYTHON", "LD_", "OMP_", "MKL_", "ORT_")  # beginnings of the names of variables
IMPORTED = (
    "gleanet.cli.app, gleanet.pipeline, gleanet.report, gleanet.web, gleanet.papers, gleanet.frameworks, torch, numpy, onnx, onnxruntime, "
    "onnxscript, sklearn.datasets, pyarrow.parquet, PIL.Image, altair, vl_convert, jinja2, msgspec, rich.progress, rich.table"
)


class Server:
    """A process that forks one child after the other."""

    def __init__(self) -> None:
        self.socket, other = socket.socketpair()
        command = [sys.executable, "-c", f"import {IMPORTED}; from tests.forked import serve; serve({other.fileno()})"]
        root = str(Path(__file__).parents[1])
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
        # a session of its own: Ctrl-C at the terminal is for pytest
        self.process = subprocess.Popen(
            command, env=variables, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
        )  # fmt: skip
        other.close()
        atexit.register(self.close)

    def run(
        self, arguments: list[str], cwd: Path, variables: dict[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """One command; streams are captured as text."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            request = json.dumps({"arguments": arguments, "cwd": str(cwd), "variables": variables}).encode()
            socket.send_fds(self.socket, [len(request).to_bytes(4, "big")], [out.fileno(), err.fileno()])
            self.socket.sendall(request)
            self.socket.settimeout(timeout)
            try:
                status = json.loads(_receive(self.socket, int.from_bytes(_receive(self.socket, 4), "big")))
            except TimeoutError:
                self.close()
                raise subprocess.TimeoutExpired(arguments, timeout, _text(out), _text(err)) from None
            return subprocess.CompletedProcess(arguments, status, _text(out), _text(err))

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def run(arguments: list[str], cwd: Path, variables: dict[str, str], timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """``gleanet`` with these arguments, in this folder, with these variables beside ours; returncode, stdout and stderr as text."""
    every = {**os.environ, **variables}
    if any(name.startswith(READ_AT_START) for name in variables):
        command = [sys.executable, "-m", "gleanet", *arguments]
        return subprocess.run(command, cwd=cwd, env=every, capture_output=True, text=True, timeout=timeout, check=False)
    if not _servers or _servers[0].process.poll() is not None:
        _servers[:] = [Server()]
    return _servers[0].run(arguments, cwd, every, timeout)


_servers: list[Server] = []


def serve(descriptor: int) -> None:
    """In the server: fork a child for every request, wait for it, answer with its exit status. Ends when the other side is gone."""
    machine()  # a second of looking at the processor, which the children need not repeat
    with socket.socket(fileno=descriptor) as connection:
        while True:
            head, streams, _, _ = socket.recv_fds(connection, 4, 2)
            if not head:
                return
            request = json.loads(_receive(connection, int.from_bytes(head, "big")))
            child = os.fork()
            if child == 0:
                connection.close()
                _become(request, *streams)
            for stream in streams:
                os.close(stream)
            answer = json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode()
            connection.sendall(len(answer).to_bytes(4, "big") + answer)


def _become(request: dict[str, object], out: int, err: int) -> None:
    """In the child: run the command and end."""
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(str(request["cwd"]))
        os.environ.clear()
        os.environ.update(request["variables"])  # type: ignore[call-overload]
        sys.argv = ["gleanet", *request["arguments"]]  # type: ignore[misc]
        from gleanet.cli.app import main

        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _receive(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise ConnectionError("the server of forked commands has ended")
        found += part
    return found


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode()
