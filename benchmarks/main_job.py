"""The main job on CIFAR-10, as a user runs it: one real command a case, its record kept in ``benchmarks/results/main_job/``.

    GLEANET_DATA=DATA python benchmarks/main_job.py WEIGHTS_FOLDER [CASE ...]

DATA holds ``cifar10-jpeg``; WEIGHTS_FOLDER holds the public checkpoints. Without cases all of them run, the long one last.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "main_job"
CASES = {
    "resnet20-oneshot": ["resnet20", "--weights", "resnet20-jpeg.pt", "--epochs", "0"],
    "resnet20-public-oneshot": ["resnet20", "--weights", "resnet20-12fca82f.th", "--epochs", "0"],
    "resnet56-oneshot": ["resnet56", "--weights", "resnet56-jpeg.pt", "--epochs", "0"],
    "resnet56-public-oneshot": ["resnet56", "--weights", "resnet56-4bfd9763.th", "--epochs", "0"],
    "resnet20-recovered": ["resnet20", "--weights", "resnet20-12fca82f.th", "--epochs", "3", "--fair-baseline"],
}


def main() -> int:
    """Run the cases named on the command line; returns an exit code."""
    if len(sys.argv) < 2 or not set(sys.argv[2:]) <= set(CASES):
        sys.stderr.write(f"{__doc__}\ncases: {', '.join(CASES)}\n")
        return 2
    weights = Path(sys.argv[1])
    RESULTS.mkdir(parents=True, exist_ok=True)
    for case in sys.argv[2:] or CASES:
        arguments = [str(weights / word) if (weights / word).is_file() else word for word in CASES[case]]
        with tempfile.TemporaryDirectory() as folder:
            settings = ["--data", "cifar10-jpeg", "--flops", "0.5", "--out", f"{folder}/{case}"]
            command = [sys.executable, "-m", "gleanet", "shrink", *arguments, *settings]
            sys.stderr.write(f"{' '.join(command)}\n")
            subprocess.run(command, check=True)
            (RESULTS / f"{case}.json").write_bytes(Path(folder, case, "run.json").read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
