"""The code blocks of a page, and running them as a reader would: in a folder of their own, one after the other."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """``language`` is sh or python; one with a ``file`` is written there, another is run."""

    language: str
    file: str
    text: str


def blocks(page: Path) -> list[Block]:
    """All fenced blocks in shell and Python, in order."""
    found = (Block(*match) for match in BLOCK.findall(page.read_text(encoding="utf-8")))
    return [block for block in found if block.language in ("sh", "python")]


def follow(page: Path, folder: Path) -> list[str]:
    """Do what the page says, in ``folder``; returns what each block that ran has printed.

    ``python`` and ``gleanet`` are those that run the test.
    """
    programs = folder / ".bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name, start in (("python", ""), ("gleanet", "-m gleanet ")):
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {start}"$@"\n')
        script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}
    printed = []
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
            continue
        words = ["bash", "-euo", "pipefail", "-c", block.text] if block.language == "sh" else [str(programs / "python"), "-c", block.text]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout)
    return printed
