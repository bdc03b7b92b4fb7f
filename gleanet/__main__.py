"""``python -m gleanet`` is the command ``gleanet``."""

import sys

from gleanet.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
