"""``python -m gleanet`` is the command ``gleanet``."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while libraries are imported, and after the work, Ctrl-C ends the process at once

from gleanet.cli.app import main as main

if __name__ == "__main__":
    sys.exit(main())
