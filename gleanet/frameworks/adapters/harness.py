"""What every adapter needs, and nothing of its framework. Runs under the framework's own interpreter: Python 3.6, numpy 1.16 or newer.

An adapter is a script. It imports this file first (before its framework, so that the process is on its cores already), then its framework
inside ``with importing():``, then calls ``run(build)``. ``build(job, weights)`` returns a ``Network``:

    version            of the framework
    step(x, y)         one step of stochastic gradient descent on one batch; returns the loss before it, a float
    forward(x)         logits [N, 10] as a numpy array
    gradients(x, y)    (loss, {name: gradient}) in the layout of ``weights``, nothing updated; None for runtimes that only infer

``x`` is [N, 3, 32, 32] in ``job.dtype``, or [N, 32, 32, 3] where ``build`` sets ``channels_last``; ``y`` is int32 [N]. ``weights``: conv
[out, in, 3, 3], dense [out, in] on features flattened in the order channel, row, column. What lies between the marks ``# model and step``
and ``# end`` is the code whose length is compared.

The answer goes to a file, because frameworks write to standard output whatever they like.
"""

import contextlib
import gc
import json
import os
import select
import signal
import sys
import threading
import time

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def _die_with_whoever_started_us():
    """A comparison that is killed leaves nothing behind: no adapter, and no compiler or worker that an adapter has started.

    It holds the other end of our standard input and writes nothing. When it ends, however it ends, the input closes. On Linux the kernel
    itself then kills our group: no interpreter that native code keeps waiting is needed for that. Elsewhere a thread does it.
    """
    if not hasattr(os, "getsid") or os.getsid(0) != os.getpid():
        return  # started by hand: the group is not our own
    line = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # whoever reads standard input finds its end, and does not wait
    try:
        fcntl.fcntl(line, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(line, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(line, fcntl.F_SETFL, fcntl.fcntl(line, fcntl.F_GETFL) | os.O_ASYNC)
    except (AttributeError, OSError):  # another system than Linux
        threading.Thread(target=_watch, args=(line,), daemon=True).start()
        return
    closed = select.poll()
    closed.register(line, 0)
    if closed.poll(0):  # it ended before we came here
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _watch(line):
    while os.read(line, 1):
        continue
    os.killpg(os.getpgrp(), signal.SIGKILL)


with open(sys.argv[1]) as _file:
    _JOB = json.load(_file)
_die_with_whoever_started_us()
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, _JOB["cores"])

import numpy as np

THREADS = _JOB["threads"]
BATCH = 64
_import_seconds = 0.0


class Job:
    """What is to be done: ``task`` (check or time), ``mode``, ``dtype``, ``threads``, ``device``, ``steps``, ``lr``, ``model`` (ONNX)."""

    def __init__(self, values):
        self.__dict__.update(values)


class Network:
    """What ``build`` returns; see the top of this file."""

    def __init__(self, version, step=None, forward=None, gradients=None, channels_last=False):
        self.version = version
        self.step = step
        self.forward = forward
        self.gradients = gradients
        self.channels_last = channels_last

    def images(self, x):
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if self.channels_last else x


@contextlib.contextmanager
def importing():
    """Times the import of the framework."""
    global _import_seconds
    start = time.perf_counter()
    yield
    _import_seconds += time.perf_counter() - start


def hwio(weight):
    """Convolution weight [out, in, h, w] -> [h, w, in, out]."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))


def from_hwio(weight):
    """The inverse of :func:`hwio`."""
    return np.asarray(weight).transpose(3, 2, 0, 1)


def dense_hwc(weight, channels=64, side=8):
    """First dense weight [out, C*H*W] -> [H*W*C, out], for features flattened in the order row, column, channel."""
    return np.ascontiguousarray(weight.reshape(-1, channels, side, side).transpose(2, 3, 1, 0).reshape(channels * side * side, -1))


def from_dense_hwc(weight, channels=64, side=8):
    """The inverse of :func:`dense_hwc`."""
    return np.asarray(weight).reshape(side, side, channels, -1).transpose(3, 2, 0, 1).reshape(-1, channels * side * side)


def channels_last(weights):
    """All weights as frameworks with channels last keep them, by the same names."""
    changed = {name: value.T for name, value in weights.items()}  # a bias is its own transpose
    changed.update({"conv1.w": hwio(weights["conv1.w"]), "conv2.w": hwio(weights["conv2.w"]), "fc1.w": dense_hwc(weights["fc1.w"])})
    return {name: np.ascontiguousarray(value) for name, value in changed.items()}


def from_channels_last(weights):
    """The inverse of :func:`channels_last`."""
    changed = {name: np.asarray(value).T for name, value in weights.items()}
    for name, back in (("conv1.w", from_hwio), ("conv2.w", from_hwio), ("fc1.w", from_dense_hwc)):
        changed[name] = back(weights[name])
    return changed


def run(build):
    """Do the job and write the answer."""
    job = Job(_JOB)
    batches = np.load(job.batches)
    pixels, labels = batches["x"], batches["y"].astype(np.int32)
    images = np.empty(pixels.shape, job.dtype)  # [batch, N, 3, 32, 32]
    for index, batch in enumerate(pixels):  # one by one, so that the peak of memory is the framework's and not ours
        images[index] = (batch.astype(np.float64) / 255 - 0.5) / 0.25
    weights = {kind: {name: value.astype(job.dtype) for name, value in np.load(path).items()} for kind, path in job.weights.items()}
    answer = {"python": sys.version.split()[0], "numpy": np.__version__, "import_s": _import_seconds}
    task = _check if job.task == "check" else _time
    task(job, build, weights, images, labels, answer)
    answer["memory"] = _peak_memory()
    with open(job.answer + ".part", "w") as file:
        json.dump(answer, file)
    os.replace(job.answer + ".part", job.answer)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # some old frameworks crash while the interpreter shuts down, after the work is done


def _check(job, build, weights, images, labels, answer):
    """First use from cold caches, ten steps, then loss and gradients of the first batch with the initial and with the probing weights."""
    arrays = {}
    start = time.perf_counter()
    network = build(job, _copy(weights["initial"]))
    answer["version"] = str(network.version)
    answer["build_s"] = time.perf_counter() - start
    first = network.images(images[0])
    start = time.perf_counter()
    if network.step is None:
        arrays["logits"] = np.asarray(network.forward(first))
        answer["first_s"] = time.perf_counter() - start
    else:
        losses = [float(network.step(first, labels[0]))]
        answer["first_s"] = time.perf_counter() - start
        for index in range(1, job.check_steps):
            at = index % len(images)
            losses.append(float(network.step(network.images(images[at]), labels[at])))
        answer["losses"] = losses
        for kind in sorted(weights):
            del network
            gc.collect()
            network = build(job, _copy(weights[kind]))
            loss, gradients = network.gradients(first, labels[0])
            answer["loss_" + kind] = float(loss)
            arrays.update({kind + "/" + name: np.asarray(value, dtype=np.float64) for name, value in gradients.items()})
            if kind == "initial":
                arrays["logits"] = np.asarray(network.forward(first))
    np.savez(job.arrays, **arrays)


def _time(job, build, weights, images, labels, answer):
    """First use, then the wall and processor time of every step and of every inference."""
    start = time.perf_counter()
    network = build(job, _copy(weights["initial"]))
    answer["version"] = str(network.version)
    answer["build_s"] = time.perf_counter() - start
    batches = [network.images(each) for each in images]
    if network.step is not None:
        answer["step"] = _timed(lambda at: network.step(batches[at], labels[at]), job, len(batches))
    answer["inference"] = _timed(lambda at: network.forward(batches[at]), job, len(batches))


def _timed(call, job, n):
    """Milliseconds of each call after the warm-up; the first call apart, because it may compile."""
    start = time.perf_counter()
    call(0)
    first = time.perf_counter() - start
    for index in range(1, job.warmup):
        call(index % n)
    wall, cpu = [], []
    gc.collect()
    for index in range(job.steps):
        start, busy = time.perf_counter(), time.process_time()
        call((job.warmup + index) % n)
        cpu.append(1000 * (time.process_time() - busy))
        wall.append(1000 * (time.perf_counter() - start))
    return {"first_s": first, "wall_ms": wall, "cpu_ms": cpu}


def _copy(weights):
    return {name: value.copy() for name, value in weights.items()}


def _peak_memory():
    """Largest resident size of this process in bytes. On Linux not ``ru_maxrss``, which starts with the size of the parent process."""
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
