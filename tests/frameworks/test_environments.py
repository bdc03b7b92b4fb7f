"""Environments are really made, in a cache of the test, with no packages in them."""

from pathlib import Path

import pytest

from gleanet.core.errors import FrameworkError, SettingsError
from gleanet.frameworks.catalogue import FRAMEWORKS, Need, find, rows
from gleanet.frameworks.environments import clean_environment, explain, folder, python_of, remove, requirement_name, setup, state
from gleanet.frameworks.interpreters import find_interpreter
from tests.frameworks.conftest import HERE, Row


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLEANET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.slow
def test_made_found_ready_repaired_and_removed(row: Row, cache: Path) -> None:
    mine = row(package="pip", here=False)
    before = state(mine)
    assert (before.status, before.python) == ("absent", None)
    assert before.reason == "not installed: gleanet frameworks setup mine"
    made = setup(mine)
    assert made.status == "ready"
    assert made.python == python_of(folder(mine))
    assert made.python.is_relative_to(cache)
    assert made.version[0].isdigit()
    assert made.bytes is not None
    assert made.bytes > 1_000_000

    other = state(row(package="pip", here=False, install=(("pip>0",),)))
    assert (other.status, other.python) == ("absent", None)
    assert other.reason.startswith("its pinned versions have changed")

    stamp = (folder(mine) / "ready.json").stat().st_mtime_ns
    assert setup(mine) == made
    assert (folder(mine) / "ready.json").stat().st_mtime_ns == stamp, "what is ready is left alone"

    witness = folder(mine) / "venv" / "witness"
    witness.touch()
    (folder(mine) / "ready.json").unlink()  # a set-up that was killed before its last step
    assert state(mine).status == "absent"
    assert setup(mine).status == "ready"
    assert witness.exists(), "it goes on with what is there"

    made.python.unlink()
    broken = state(mine)
    assert broken.status == "broken"
    assert "does not start: gleanet frameworks setup mine" in broken.reason
    assert setup(mine).status == "ready"
    assert not witness.exists()

    (folder(mine) / "ready.json").write_text("{", encoding="utf-8")
    assert state(mine).status == "broken"
    assert remove(mine)
    assert not folder(mine).exists()
    assert not remove(mine)


def test_a_missing_interpreter_is_one_sentence(row: Row) -> None:
    mine = row(pythons=("2.6", "9.9"), here=False)
    assert state(mine).status == "impossible"
    with pytest.raises(SettingsError) as caught:
        setup(mine)
    assert str(caught.value).startswith("Mine needs Python 2.6 or 9.9 with venv, and there is none on PATH, in pyenv or in uv: install one")
    assert not folder(mine).exists()


def test_what_the_system_lacks_is_said_before_anything_is_installed(row: Row) -> None:
    mine = row(here=False, needs=(Need("g++-1.0", "g++"), Need("libnothing.so.9", "libnothing9")))
    with pytest.raises(SettingsError, match=r"Mine needs g\+\+-1.0, libnothing.so.9: install it \(Debian: apt install g\+\+ libnothing9\)"):
        setup(mine)
    assert not folder(mine).exists()


def test_without_a_network_it_says_so_in_one_line(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    mine = row(here=False, install=(("gleanet-there-is-no-such-package==1",),))
    with pytest.raises(FrameworkError) as caught:
        setup(mine)
    message = str(caught.value)
    assert message.startswith("Mine: the package index cannot be reached: check the network, then call setup again")
    assert "\n" not in message
    assert state(mine).status == "absent"


def test_what_pip_says_becomes_one_line() -> None:
    output = "Collecting x\nERROR: Could not find a version of x==9\nERROR: No matching distribution found for x==9\n"
    assert explain(output) == "ERROR: Could not find a version of x==9"
    assert explain("Traceback\nOSError: [Errno 28] No space left on device\n") == "OSError: [Errno 28] No space left on device"
    assert explain("") == "no output"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("numpy", "numpy"),
        ('numpy>=1.2; python_version < "3.9"', "numpy"),
        ("jinja2[i18n] (>=3)", "jinja2"),
        ("torch ==2.13.0", "torch"),
        ("a.b-c~=1.0", "a.b-c"),
        ("mine @ file:///x", "mine"),
        ("x!=1,<2", "x"),
    ],
)
def test_the_name_in_a_requirement(text: str, name: str) -> None:
    assert requirement_name(text) == name


def test_this_interpreter_is_found() -> None:
    found = find_interpreter((HERE,))
    assert found is not None
    assert find_interpreter(("1.4",)) is None


def test_another_interpreter_does_not_see_our_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYENV_VERSION"):
        monkeypatch.setenv(name, "/ours")
    monkeypatch.setenv("HOME", "/home/me")
    found = clean_environment({"DEV": "CPU"})
    assert found["HOME"] == "/home/me"
    assert found["DEV"] == "CPU"
    assert "/ours" not in found.values()


def test_what_this_interpreter_has_needs_no_environment(row: Row) -> None:
    found = state(row(package="jinja2"))
    assert found.status == "here"
    assert found.bytes is not None
    assert found.bytes > 500_000, "with markupsafe, which it requires"


def test_rows_by_name_and_mode() -> None:
    names = [(framework.name, mode) for framework, mode in rows(["pytorch", "PyTorch:eager", "torch:compiled", "jax"])]
    assert names == [("pytorch", "eager"), ("pytorch", "compiled"), ("jax", "default")]
    assert len(rows(())) >= 17
    with pytest.raises(SettingsError, match=r"no framework 'caffe': known are theano-0\.9"):
        find("caffe")
    with pytest.raises(SettingsError, match="PyTorch has no mode 'graph': it has eager, compiled"):
        rows(["pytorch:graph"])


def test_the_catalogue_is_pinned_and_whole() -> None:
    assert len({framework.name for framework in FRAMEWORKS}) == len(FRAMEWORKS)
    for framework in FRAMEWORKS:
        assert framework.script.is_file()
        assert any(word.lower().startswith(f"{framework.package.lower()}==") for words in framework.install for word in words), (
            framework.name
        )
        assert not framework.shares or find(framework.shares).install == framework.install
