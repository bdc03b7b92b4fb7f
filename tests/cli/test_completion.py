"""Shell completion in a real bash: what Tab would offer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with ``gleanet`` on the path, where completion was installed as a user would."""
    folder = tmp_path_factory.mktemp("home")
    program = folder / "bin/gleanet"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gleanet "$@"\n')
    program.chmod(0o755)
    done = in_bash(folder, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION=1 gleanet --install-completion bash")
    assert "completion" in done.lower()
    return folder


def in_bash(home: Path, script: str) -> str:
    environment = {**os.environ, "HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def offered(home: Path, *words: str) -> list[str]:
    """What Tab offers after these words, by the function that the user's .bashrc defines."""
    line = " ".join(f"'{word}'" for word in words)
    script = (
        f". ~/.bashrc; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _gleanet_completion gleanet; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    return in_bash(home, script).split()


def test_installing_it_completes_commands_options_and_values(home: Path) -> None:
    assert offered(home, "gleanet", "quan") == ["quantize"]
    assert {"list", "show", "search"} <= set(offered(home, "gleanet", "runs", ""))
    assert set(offered(home, "gleanet", "shrink", "--al")) == {"--allocation", "--align"}
    assert set(offered(home, "gleanet", "shrink", "--allocation", "")) == {"uniform", "global", "latency"}


def test_the_script_to_copy_is_shown(home: Path) -> None:
    assert "complete -o default -F _gleanet_completion gleanet" in in_bash(
        home, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION=1 gleanet --show-completion bash"
    )
