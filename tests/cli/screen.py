"""A terminal with a screen: what a person sees of a program, and whether any line ever wrapped."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte

ROOT = Path(__file__).parents[2]


class Watched(pyte.HistoryScreen):
    """A screen that remembers what scrolled off, and counts the lines that ran over its right edge."""

    wrapped = 0

    def draw(self, data: str) -> None:
        for character in data:
            if self.cursor.x == self.columns:
                self.wrapped += 1
            super().draw(character)

    def text(self) -> list[str]:
        """Every line so far that is not empty, those that scrolled off first."""
        above = ["".join(line[column].data for column in range(self.columns)).rstrip() for line in self.history.top]
        return [line for line in (*above, *(line.rstrip() for line in self.display)) if line]


def shown(command: list[str], columns: int, lines: int = 24, **environment: str) -> Watched:
    """Run ``python ARGUMENTS`` on a pseudo-terminal of that size to its end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "CI")}
    variables |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **environment}
    screen = Watched(columns, lines, history=2000, ratio=0.5)
    stream = pyte.ByteStream(screen)
    with subprocess.Popen([sys.executable, *command], stdin=theirs, stdout=theirs, stderr=theirs, env=variables, cwd=ROOT) as process:
        os.close(theirs)
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the other end is closed: the program has ended
                break
            if not data:
                break
            stream.feed(data)
        process.wait(timeout=60)
    os.close(ours)
    assert process.returncode == 0, "\n".join(screen.text())
    return screen
