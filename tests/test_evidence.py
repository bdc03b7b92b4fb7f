"""Tables in README and docs are what their command writes from the committed result files."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_no_table_was_edited_by_hand() -> None:
    script = (
        "import sys; sys.path.insert(0, 'benchmarks')\n"
        "import tables\n"
        "stale = [str(path) for path, text in tables.targets().items() if path.suffix == '.md' and path.read_text() != text]\n"
        "assert tables.targets() and not stale, stale\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
