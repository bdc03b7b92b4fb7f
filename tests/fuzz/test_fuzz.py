"""Broken and hostile input: a reader works or says in one line what is wrong; nothing runs, nothing hangs, nothing leaves its folder.

The cases are the same in every run (``corpus.SEED``). ``make fuzz`` reads them all; the quick tests read every tenth.
"""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fuzz.child import MEMORY
from tests.fuzz.corpus import cases
from tests.fuzz.readers import readers

LEAST = 2000
EVERY = 10

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits on memory and time, and /proc, are Linux")


@dataclass
class Findings:
    """What the children reported."""

    outcomes: dict[str, str]
    wrong: list[str]
    peak: int = 0


def read_all(root: Path, first: int, step: int) -> Findings:
    """Read cases ``first``, ``first + step``, ... in a process; one that dies is a finding, and another goes on behind that case."""
    names = [case.name for case in cases()][first::step]
    found = Findings({}, [])
    while len(found.outcomes) < len(names):
        at = first + step * len(found.outcomes)
        folder = root / f"from {at}"
        folder.mkdir()
        command = [sys.executable, "-m", "tests.fuzz.child", str(folder), str(at), str(step)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, errors="replace"
        ) as child:
            out, err = child.communicate(timeout=900)
        case = _note(out, found)
        if child.returncode == 0:
            break
        assert case is not None, f"the child failed outside of any case: {err[-2000:]}"
        how = (
            "took longer than 10 s"
            if child.returncode in (-signal.SIGPROF, -signal.SIGALRM)
            else f"ended the process ({child.returncode}): {err[-500:]}"
        )
        found.outcomes[case] = "wrong"
        found.wrong.append(f"{case}: {how}")
    assert list(found.outcomes) == names
    return found


def _note(out: str, found: Findings) -> str | None:
    """Take down what a child printed; returns the case that it did not come back from."""
    case: str | None = None
    for line in out.splitlines():
        if not line.startswith("{"):  # a native library that prints
            continue
        entry = json.loads(line)
        if "case" in entry:
            case = entry["case"]
        elif "peak" in entry:
            found.peak = max(found.peak, entry["peak"])
        elif case is not None:
            found.outcomes[case] = entry["outcome"]
            if entry["outcome"] == "wrong" or entry["did"]:
                found.wrong.append(f"{case}: {entry['says']} {entry['did']}")
            case = None
    return case


@pytest.mark.slow
def test_the_corpus_is_large_reproducible_and_covers_every_reader(tmp_path: Path) -> None:
    """Two processes make the same files."""
    known = cases()
    assert len({case.name for case in known}) == len(known) >= LEAST
    assert {case.reader for case in known} == set(readers())
    code = (
        "import hashlib, pathlib, sys; from tests.fuzz.corpus import cases; digest = hashlib.sha256()\n"
        "for n, case in enumerate(cases()[::37]):\n"
        "    folder = pathlib.Path(sys.argv[1]) / str(n); folder.mkdir(); case.make(folder)\n"
        "    for path in sorted(p for p in folder.rglob('*') if p.is_file()):\n"
        "        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())\n"
        "print(digest.hexdigest())"
    )
    digests = set()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "0" if name == "one" else "1"}
        command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


def test_every_tenth_case_works_or_is_refused_in_one_line(tmp_path: Path) -> None:
    found = read_all(tmp_path, 0, EVERY)
    assert not found.wrong, "\n".join(found.wrong)
    assert found.peak < MEMORY


@pytest.mark.slow
def test_every_case_works_or_is_refused_in_one_line(tmp_path: Path) -> None:
    found = read_all(tmp_path, 0, 1)
    assert not found.wrong, "\n".join(found.wrong)
    assert found.peak < MEMORY
    came = {case.name: (case.reader, found.outcomes[case.name]) for case in cases()}
    for reader in readers():  # neither a reader that takes anything nor one that takes nothing has been tested
        counts = Counter(outcome for name, outcome in came.values() if name == reader)
        assert counts["accepted"] or reader == "config", reader  # every settings file names data that is not there
        assert counts["refused"] or reader == "report", reader
    bombs = [outcome for name, (_, outcome) in came.items() if "50,000 x 50,000" in name or name.startswith("code in")]
    assert set(bombs) == {"refused"}


HARM = {
    "__import__('os').system('touch ../executed')": "os.system",
    "open('../../outside/evil', 'w').close()": "outside/evil",
    "__import__('os').mkdir('../evil')": "changed",
    "bytearray(3 << 30)": "MemoryError",
    "1 / 0": "ZeroDivisionError",
    "__import__('os').abort()": "ended the process",
    "sum(iter(int, 1))": "took longer than 10 s",
}
# Puts readers that do harm into the places of the last cases but one.
HARMFUL = f"""
import importlib.abc, importlib.util, sys

HARM = {list(HARM)!r}

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "tests.fuzz.corpus":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            from tests.fuzz import readers
            whole = module.cases
            def cases():
                found = whole()
                for at, harm in enumerate(HARM, len(found) - len(HARM) - 1):
                    readers.readers()[harm] = lambda case, harm=harm: eval(harm)
                    found[at] = module.Case(found[at].name, harm, lambda folder: None)
                return found
            module.cases = cases
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.slow
def test_harm_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The net itself: a reader that does harm is caught, and the cases behind it are still read."""
    hook, root = tmp_path / "hook", tmp_path / "root"
    for folder in (hook, root):
        folder.mkdir()
    (hook / "sitecustomize.py").write_text(HARMFUL)
    monkeypatch.syspath_prepend(str(hook))
    first = len(cases()) - len(HARM) - 2
    found = read_all(root, first, 1)
    assert len(found.outcomes) == len(HARM) + 2
    assert len(found.wrong) == len(HARM)
    for said, sign in zip(found.wrong, HARM.values(), strict=True):
        assert sign in said
