"""The house rules of docs/architecture.md, read from the source with ``ast``."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ADAPTERS = sorted((ROOT / "gleanet/frameworks/adapters").glob("*.py"))  # scripts for other interpreters: read as files, never imported
FILES = sorted(set((ROOT / "gleanet").rglob("*.py")) - set(ADAPTERS))
SOURCES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file.read_text(encoding="utf-8") for file in FILES
}
TREES = {module: ast.parse(source) for module, source in SOURCES.items()}
ROOMS = sorted({name.split(".")[1] for name in TREES if "." in name} - {"__main__"})
TABLE_ROW = re.compile(r"^\| (\w+) \| ([\w, ]+) \| ([\w, -]+) \|$", re.MULTILINE)
ALLOWED = {room: (ours, others) for room, ours, others in TABLE_ROW.findall((ROOT / "docs/architecture.md").read_text(encoding="utf-8"))}
LATE_IMPORTS = ("gleanet.cli.", "gleanet.pipeline.", "gleanet.data.digits")  # for start-up time, as docs/architecture.md says

MAX_FILE = 400
MAX_FUNCTION = 70


def imports(module: str, tree: ast.AST) -> Iterator[str]:
    """Every module imported anywhere in the tree, by its full name; ``from gleanet.nn import cost`` is gleanet.nn."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import on line {node.lineno}"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in TREES else node.module


def split(cell: str) -> set[str]:
    return set(cell.split(", ")) - {"nothing"}


def test_every_room_has_a_row_in_the_table() -> None:
    assert set(ROOMS) <= set(ALLOWED) - {"room"}, "add the new room to docs/architecture.md"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_its_row_allows(room: str) -> None:
    ours, others = ALLOWED[room]
    for module, tree in TREES.items():
        if f"{module}.".startswith(f"gleanet.{room}."):
            for name in imports(module, tree):
                top, _, rest = name.partition(".")
                if top == "gleanet":
                    assert rest, f"{module} imports the package root"
                    assert rest.split(".")[0] in split(ours) | {room}, f"{module} imports {name}"
                else:
                    assert top in split(others) or top in sys.stdlib_module_names, f"{module} imports {name}"


def test_no_import_cycle_between_files() -> None:
    """A file depends on the files it imports; importing from a room's contents is importing all that it lists."""
    inside = {module: {name for name in imports(module, tree) if name in TREES and name != "gleanet"} for module, tree in TREES.items()}
    TopologicalSorter({module: names for module, names in inside.items() if module != "gleanet"}).prepare()


@pytest.mark.parametrize("module", TREES)
def test_file_and_functions_are_short_and_plain(module: str) -> None:
    tree = TREES[module]
    lines = SOURCES[module].count("\n")
    assert lines <= MAX_FILE, f"{module} has {lines} lines"
    assert module.split(".")[-1] not in ("utils", "util", "helpers", "misc"), "name the file after what it holds"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION, f"{module}.{node.name} is too long"
            late = [part for part in ast.walk(node) if isinstance(part, ast.Import | ast.ImportFrom)]
            assert not late or f"{module}.".startswith(LATE_IMPORTS), f"{module}.{node.name} imports inside the function"
        elif isinstance(node, ast.ExceptHandler):
            silent = all(
                isinstance(part, ast.Pass) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)) for part in node.body
            )
            assert not silent, f"{module}: line {node.lineno} passes over an error in silence"
            assert node.type is not None, f"{module}: line {node.lineno} catches everything"
        elif isinstance(node, ast.Name):
            assert node.id != "NotImplementedError", f"{module}: line {node.lineno} is not implemented"
            assert node.id != "print" or module.startswith("gleanet.cli."), f"{module}: line {node.lineno} prints"


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda path: path.stem)
def test_an_adapter_runs_under_another_interpreter(adapter: Path) -> None:
    """Old syntax, nothing of ours beside the harness, nothing that hides the framework of the same name."""
    source = adapter.read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 7))
    assert source.count("\n") <= 250
    assert adapter.stem == "harness" or adapter.stem.endswith("_cnn"), (
        "a script's folder comes first on the path: theano.py would hide Theano"
    )
    for node in ast.walk(tree):
        assert not isinstance(node, ast.NamedExpr | ast.Match), f"line {node.lineno} is newer than Python 3.6"
        assert not getattr(node, "posonlyargs", ()), "positional-only arguments are newer than Python 3.6"
    assert not any(name.startswith("gleanet") for name in imports(adapter.stem, tree))
    assert adapter.stem == "harness" or "harness" in imports(adapter.stem, tree)


def test_nothing_of_ours_imports_an_adapter() -> None:
    assert not (ROOT / "gleanet/frameworks/adapters/__init__.py").exists()
    names = {"harness", *(f"gleanet.frameworks.adapters.{path.stem}" for path in ADAPTERS), "gleanet.frameworks.adapters"}
    assert not any(names & set(imports(module, tree)) for module, tree in TREES.items())


@pytest.mark.parametrize("module", ["gleanet", "gleanet.cli.app"])
def test_importing_it_does_not_import_the_heavy_libraries(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'onnx', 'onnxruntime', 'sklearn') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    assert answer.stdout.strip() == "[]"
