"""The same network in every framework: sets up all that can be, runs the comparison, keeps its record in ``benchmarks/results``.

    GLEANET_DATA=DATA python benchmarks/frameworks.py [FOLDER]

FOLDER (default: runs/benchmark-frameworks) is the run's. Called again with the folder of a run that was cut short, it goes on with it.
About 6.5 GB of packages, once; half an hour on a quiet machine. Debian: apt install g++ clang libopenblas-dev libopenmpi3.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "frameworks.json"
SETTINGS = ["--steps", "20", "--rounds", "5", "--threads", "1"]


def main() -> int:
    """Set up, run, keep; returns an exit code."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/benchmark-frameworks")
    command = [sys.executable, "-m", "gleanet", "frameworks"]
    subprocess.run([*command, "setup", "--all"], check=False)  # what cannot be set up here is a row that says why
    where = ["--resume", str(folder)] if (folder / "run.json").is_file() else [*SETTINGS, "--out", str(folder)]
    done = subprocess.run([*command, "run", *where], check=False)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    if record["status"] != "done":
        sys.stderr.write(f"not finished: call it again to go on with {folder}\n")
        return done.returncode or 1
    RESULT.write_text(json.dumps(without_places_of_this_machine(record, folder), indent=2) + "\n", encoding="utf-8")
    return done.returncode


def without_places_of_this_machine(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The record without the run's folder: it says nothing to anyone else."""
    text = json.dumps(record).replace(str(folder.absolute()), "RUN").replace(str(folder), "RUN").replace(str(Path.home()), "~")
    cleaned = json.loads(text)
    return dict(cleaned)


if __name__ == "__main__":
    sys.exit(main())
