"""docs/notebook.ipynb as a page: its text, its code, and what the code printed when the notebook was last run."""

import json
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[1] / "notebook.ipynb"


def text() -> str:
    """The notebook in Markdown."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(map(_cell, cells)) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    printed = "".join("".join(output.get("text") or output.get("data", {}).get("text/plain", [])) for output in cell["outputs"])
    return f"```python\n{source}\n```" + (f"\n\n```text\n{printed.rstrip()}\n```" if printed.strip() else "")
