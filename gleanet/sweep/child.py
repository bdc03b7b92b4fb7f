"""One cell's process: the command line, ended as soon as nobody is left to take its result. Run as ``python -m gleanet.sweep.child``.

Whoever starts it holds the other end of its standard input and writes nothing. When that process ends, however it ends, the input closes.
"""

import os
import runpy
import signal
import sys
from threading import Thread

LEFT_ALONE = 70


def main() -> None:
    """Become ``python -m gleanet`` with the same arguments."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where whoever started us ignores Ctrl-C, or, as Ray does, blocks it
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    Thread(target=_watch, daemon=True).start()
    runpy.run_module("gleanet", run_name="__main__", alter_sys=True)


def _watch() -> None:
    while os.read(0, 1):
        continue
    os._exit(LEFT_ALONE)


if __name__ == "__main__":
    main()
