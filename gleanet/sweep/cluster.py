"""Cells as tasks of a Ray cluster (P. Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications", OSDI 2018).

No shared disk is needed. The inputs go to a worker through Ray's object store; there the cell runs in a folder of its own in the node's
temporary folder; its files come back in the same way, and the sweep's own process writes them, the record last. A cell whose worker was
killed goes on from its last state when it gets to the same machine again, else from the beginning.
"""

import hashlib
import os
import platform
import shutil
import socket
import sys
import tempfile
import time
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nobody is told, and before the import, which reads it
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do anyway; unset, it warns of that

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gleanet.core.errors import GleanetError, SettingsError, StoreError
from gleanet.core.files import write_bytes
from gleanet.core.progress import Progress
from gleanet.core.store import RECORD
from gleanet.core.sweeps import Resources
from gleanet.sweep.inputs import contents
from gleanet.sweep.place import LOOK_S, Ended
from gleanet.sweep.process import CELLS, GRACE_S, Job, said, start, stop, trouble

AT_ONCE = 1000  # cells that Ray is given at a time
LARGEST = 2**30  # bytes that come back of one cell; of one that has more, its record and report alone
LOOK_EVERY_S = 1.0
ANSWERS_S = 10.0
NODES_EVERY_S = 60.0
CLEAR_S = 30.0


@dataclass(frozen=True)
class _Returned:
    """What a worker hands back: the files of the cell by name, what it said where it failed, and on which machine it was.

    ``left``: the folder there, with the files that were too large to come along.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    trouble: str = ""
    log: str = ""
    where: str = ""
    left: str = ""


class Cluster:
    """A Ray cluster as a place for cells, see :class:`gleanet.sweep.place.Place`."""

    def __init__(self, address: str, resources: Resources, progress: Progress) -> None:
        self._progress = progress
        self._root, self._inputs, self._name = Path(), ray.ObjectRef.nil(), ""
        self._running: dict[ray.ObjectRef, Job] = {}
        self._resources, self._left = resources, False
        self._held = ExitStack()
        self._held.enter_context(redirect_stdout(sys.stderr))  # Ray says on standard output that a worker died: results alone belong there
        self._held.callback(ray.shutdown)
        try:
            _connect(address)
            progress.say(f"Ray: {_fitting(resources)}")
        except SettingsError:
            self.close()
            raise

    def open(self, root: Path) -> None:
        self._root = root
        whole = f"{platform.node()}:{root.resolve()}"  # two sweeps of one user may have folders of the same name
        self._name = f"{root.resolve().name}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
        self._inputs = ray.put(contents(root))

    def room(self) -> int:
        return AT_ONCE - len(self._running)

    def start(self, job: Job) -> None:
        task = ray.remote(num_cpus=job.cpus, num_gpus=job.gpus, max_retries=0)(_work).options(name=f"gleanet {job.name}")
        self._running[task.remote(job, self._name, _version(), self._inputs)] = job

    def wait(self) -> Ended:
        ready: list[Any] = []
        looked = time.monotonic()
        while not ready:
            ready, _ = ray.wait(list(self._running), num_returns=1, timeout=LOOK_EVERY_S)
            if time.monotonic() - looked > NODES_EVERY_S:
                looked = time.monotonic()
                self._look_for_nodes()
        job = self._running.pop(ready[0])
        try:
            returned = ray.get(ready[0])
        except exceptions.RayTaskError as error:
            return Ended(job, _line(error.cause) if isinstance(error.cause, GleanetError) else _line(error))
        except exceptions.RayError as error:  # the worker, its node, or the result on it is gone
            return Ended(job, f"lost: {_line(error)}")
        _keep(returned, self._root, job.name)
        if returned.left:
            self._left = True
            self._progress.say(f"{job.name}: more than {LARGEST:,} bytes; the rest is on {returned.where} in {returned.left}")
        return Ended(job, returned.trouble, returned.where)

    def _look_for_nodes(self) -> None:
        try:
            _fitting(self._resources)
        except SettingsError as error:
            self._progress.say(f"waiting for a node: {error}")

    def clear(self) -> None:
        """Remove what the nodes hold of this sweep, apart from files that were too large to come back."""
        nodes = [] if self._left else [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        strategies = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
        tasks = [ray.remote(num_cpus=0, scheduling_strategy=one)(_forget).remote(self._name) for one in strategies]
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=CLEAR_S)

    def stop(self) -> None:
        for reference in self._running:
            ray.cancel(reference)
        ended, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=GRACE_S) if self._running else ([], [])
        for reference in ended:
            with suppress(exceptions.RayError):  # stopped, as it should be; what was done before that is kept
                _keep(ray.get(reference), self._root, self._running[reference].name)

    def close(self) -> None:
        self._held.close()


def _connect(address: str) -> None:
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        _listens(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"--ray {address}: no Ray cluster answers ({_line(error)}): start one with `ray start --head`, name its HOST:PORT, "
            "use --ray local, or leave out --ray"
        ) from error


def _listens(address: str) -> None:
    """Raise OSError or ValueError where nothing is at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if address not in ("auto", "local"):
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16 or "/" in host:
            raise ValueError("it is no HOST:PORT")
        socket.create_connection((host.strip("[]"), int(port)), ANSWERS_S).close()


def _fitting(resources: Resources) -> str:
    """How many cells can run at a time, in words.

    Raises:
        SettingsError: no node has what one cell needs.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    slots = [_slots(node, resources) for node in nodes]
    if not any(slots):
        most = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes) or "no nodes"
        raise SettingsError(
            f"a cell needs {resources.cpus} CPUs and {resources.gpus:g} GPUs, and no node of the Ray cluster has them: {most}"
        )
    return f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}, {sum(slots)} cell{'s' if sum(slots) > 1 else ''} at a time"


def _slots(node: dict[str, float], resources: Resources) -> int:
    by_cpu = int(node.get("CPU", 0) // resources.cpus)
    return by_cpu if resources.gpus == 0 else min(by_cpu, int(node.get("GPU", 0) / resources.gpus + 1e-9))


def _keep(returned: _Returned, root: Path, name: str) -> None:
    """Write a cell's files into the sweep's folder, the record last: a cell whose record says done has everything."""
    if returned.files:
        shutil.rmtree(root / CELLS / name, ignore_errors=True)  # begun here once, done there
    log = root / CELLS / f"{name}.log"
    if returned.log:
        write_bytes(log, returned.log.encode())
    for file in sorted(returned.files, key=lambda file: file == RECORD):
        write_bytes(root / CELLS / name / file, returned.files[file])


def _work(job: Job, sweep: str, wanted: str, inputs: dict[str, bytes]) -> _Returned:
    """In a worker: the cell from its command line to its files."""
    if _version() != wanted:
        raise SettingsError(f"node {platform.node()} has gleanet {_version()}, the sweep was started with {wanted}: install that there")
    root = _scratch() / sweep
    for name, data in inputs.items():
        if not (root / name).is_file():
            write_bytes(root / name, data)
    process = start(job, root)
    try:
        while process.poll() is None:  # in small steps: Ray's way to interrupt waits for the next one
            time.sleep(LOOK_S)
    except BaseException:
        stop(process)
        raise
    process.communicate()  # closes what it was held by
    why = trouble(job, root, process.returncode)
    if why:
        return _Returned(trouble=why, log=said(root, job.name), where=platform.node())
    folder = root / CELLS / job.name
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    large = sum(path.stat().st_size for path in paths) > LARGEST
    paths = [path for path in paths if not large or path.name in (RECORD, "report.html")]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    if not large:
        shutil.rmtree(folder, ignore_errors=True)
    return _Returned(files, where=platform.node(), left=str(folder) if large else "")


def _forget(sweep: str) -> None:
    shutil.rmtree(_scratch() / sweep, ignore_errors=True)


def _scratch() -> Path:
    """A folder of this user's on this machine that nobody else can write to."""
    folder = Path(tempfile.gettempdir()) / f"gleanet-sweeps-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or folder.is_symlink():
        raise StoreError(f"{folder} is not this user's own: remove it, or set TMPDIR where the Ray node is started")
    return folder


def _version() -> str:
    try:
        return version("gleanet")
    except PackageNotFoundError:
        return "source tree"


def _line(error: BaseException) -> str:
    """The last line of an error's text that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]
