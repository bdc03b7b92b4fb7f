"""What mkdocs does not do by itself: formulas as MathML, and pages that are made from the program and not written.

Made pages: the commands with their options (from the command line's own parser), the notebook, and CONTRIBUTING.md.
"""

import re
import sys
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

import command_page
import notebook_page

ROOT = Path(__file__).parents[2]
# what docstrings say to readers of the code: roles before names, and sections of the contract that the definitions stand for here
INTERNAL = re.compile(r":(?:func|class|meth|mod|data|attr):(?=<code>)| \((?:our reading: )?DESIGN [\w.]+\)")
FORMULA = re.compile(r'<(span|div) class="arithmatex">(.+?)</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("](docs/", "](")
    pages = {"commands.md": command_page.text(), "notebook.md": notebook_page.text(), "contributing.md": contributing}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Formulas: from LaTeX to MathML, which browsers draw without a script; docstrings without what is internal to the code."""
    return FORMULA.sub(lambda found: _formula(unescape(found[2])), INTERNAL.sub("", html))


def _formula(latex: str) -> str:
    latex = latex.strip()
    display = "block" if latex.startswith(r"\[") else "inline"
    return str(convert(latex[2:-2].strip(), display=display))
