"""The wheel is whole: every file is in it, it installs clean, and its command works from anywhere without the source tree."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path, **environment: str) -> str:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=variables, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the source archive, from ``python -m build``: the wheel is made from the archive, so both are whole."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return {path.name.rpartition(".")[2]: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def installed(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``gleanet`` command of a fresh environment that has the wheel, and borrows all other packages from the present one."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin/python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", built["whl"], cwd=folder)
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(packages) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin/gleanet"


def test_twine_finds_nothing_wrong(built: dict[str, Path]) -> None:
    pytest.importorskip("twine")
    assert "FAILED" not in run(sys.executable, "-m", "twine", "check", "--strict", *built.values(), cwd=ROOT)


def test_every_file_of_the_program_is_in_the_wheel_and_nothing_else(built: dict[str, Path]) -> None:
    names = {name for name in zipfile.ZipFile(built["whl"]).namelist() if ".dist-info/" not in name}
    source = (path for path in (ROOT / "gleanet").rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert names == {path.relative_to(ROOT).as_posix() for path in source} | {"gleanet/cli/messages.md"}


def test_its_command_works_from_another_folder(installed: Path, tmp_path: Path) -> None:
    def gleanet(*words: str) -> str:
        return run(installed, *words, cwd=tmp_path)

    where = run(installed.parent / "python", "-c", "import gleanet; print(gleanet.__file__)", cwd=tmp_path)
    assert str(installed.parent.parent) in where
    assert "Wait for it" in gleanet("explain", "run-busy")
    assert "Filter Contribution Recycle" in gleanet("papers", "show", "fcr")
    assert "theano" in gleanet("frameworks", "list")
    gleanet("activations", "--plot", "functions.html")
    assert "<svg" in (tmp_path / "functions.html").read_text(encoding="utf-8")


def test_the_demo_works_as_pipx_run_would_run_it(installed: Path, tmp_path: Path) -> None:
    shown = run(installed, "demo", "--epochs", "1", "--recovery", "0", cwd=tmp_path)
    assert "quantized" in shown
    left = {path.name for path in (tmp_path / "runs/demo").iterdir()}
    assert {"model.int8.onnx", "model.gleanet", "report.html", "README.md", "run.json"} <= left


@pytest.fixture
def pipx(tmp_path: Path) -> Path:
    """The command, in an environment of its own."""
    if not os.environ.get("GLEANET_PIPX"):
        pytest.skip("downloads all that gleanet needs, 1.6 GB at the least: set GLEANET_PIPX=1 to run it")
    try:
        run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "pipx", cwd=tmp_path)
        run(sys.executable, "-m", "pip", "--python", tmp_path / "pipx/bin/python", "install", "pipx", cwd=tmp_path)
    except AssertionError as error:
        pytest.skip(f"pipx cannot be installed: {str(error).splitlines()[-1]}")
    return tmp_path / "pipx/bin/pipx"


def test_pipx_runs_the_demo_of_the_wheel(pipx: Path, built: dict[str, Path], tmp_path: Path) -> None:
    where = {"PIPX_HOME": str(tmp_path / "home"), "PIPX_DEFAULT_PYTHON": sys.executable, "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
    words = [pipx, "run", "--spec", built["whl"], "gleanet"]
    try:
        assert "quantized" in run(*words, "demo", "--epochs", "1", "--recovery", "0", cwd=tmp_path, **where)
        assert (tmp_path / "runs/demo/report.html").is_file()
        refused = [str(word) for word in (*words, "shrink", "no_such_network", "--data", "digits")]
        done = subprocess.run(refused, cwd=tmp_path, env={**os.environ, **where}, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 2
        assert "gleanet: unknown network 'no_such_network'" in done.stderr
    finally:
        shutil.rmtree(tmp_path / "home", ignore_errors=True)
