"""``gleanet papers`` as a user types it."""

import json
import os
import shutil
from pathlib import Path

import pytest

import gleanet
from gleanet.papers import papers, verdicts
from tests.cli.conftest import Gleanet
from tests.cli.test_bad_input import assert_one_line
from tests.papers.strict_bibtex import entries

PACKAGE = Path(str(gleanet.__file__)).parent


def test_search_prints_what_a_library_prints(gleanet: Gleanet) -> None:
    done = gleanet("papers", "search", "ONNX", "quantization")
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0].startswith(f"1 paper of {len(papers())} for ONNX quantization, ")
    assert lines[0].endswith(" seconds")
    text = " ".join(lines)
    paper = next(paper for paper in papers() if paper.id == "chang2021lightweight")
    for part in (paper.title, paper.title_ko, *paper.authors, paper.venue, "vol. 21(1)", "pp. 93-98", "2021", paper.summary, paper.id):
        assert part in text


def test_search_as_json_and_its_limit(gleanet: Gleanet) -> None:
    found = json.loads(gleanet("papers", "search", "CIFAR10", "--limit", "3", "--json").stdout)
    assert found["count"] > len(found["papers"]) == 3
    assert found["every_word"] is True
    assert found["seconds"] > 0
    scores = [paper["score"] for paper in found["papers"]]
    assert scores == sorted(scores, reverse=True)
    some = gleanet("papers", "search", "mish", "nosuchword").stdout
    assert "None has every word" in some
    assert "Mathayo" in some


def test_nothing_found_is_an_answer_and_nothing_asked_is_an_error(gleanet: Gleanet) -> None:
    done = gleanet("papers", "search", "nosuchword")
    assert (done.returncode, done.stdout.split(",")[0]) == (0, f"0 papers of {len(papers())} for nosuchword")
    assert_one_line(gleanet("papers", "search", "--", "--"), "nothing to search for")


def test_show_says_everything_with_the_verdicts(gleanet: Gleanet) -> None:
    shown = json.loads(gleanet("papers", "show", "fcr", "--json").stdout)
    assert shown["id"] == "chen2022filter"
    assert shown["link"] == "https://doi.org/10.3837/tiis.2022.11.003"
    assert {claim["id"]: claim["verdict"]["outcome"] for claim in shown["claims"]} == {
        claim["id"]: verdicts()[claim["id"]].outcome for claim in shown["claims"]
    }
    text = gleanet("papers", "show", "chen2022filter").stdout
    for claim in shown["claims"]:
        assert f"Claim {claim['id']}: " in text
    assert "CONFIRMED +0." in text
    assert "NOT TESTED" in text


@pytest.mark.parametrize("command", ["show", "bibtex", "reproduce"])
def test_an_unknown_paper_is_one_line_with_the_nearest(gleanet: Gleanet, command: str) -> None:
    assert_one_line(gleanet("papers", command, "chen2022fitler"), "no paper 'chen2022fitler'", "did you mean chen2022filter")


def test_bibtex_of_some_and_of_all(gleanet: Gleanet) -> None:
    assert list(entries(gleanet("papers", "bibtex", "fcr", "l1", "chen2022").stdout)) == ["chen2022filter", "li2017pruning"]
    assert len(entries(gleanet("papers", "bibtex", "all").stdout)) == len(papers())
    found = json.loads(gleanet("papers", "bibtex", "fcr", "--json").stdout)
    assert list(entries(found[0]["bibtex"])) == ["chen2022filter"]


def test_list_has_every_paper(gleanet: Gleanet) -> None:
    listed = gleanet("papers", "list").stdout
    assert all(paper.id in listed for paper in papers())
    years = [paper["year"] for paper in json.loads(gleanet("papers", "list", "--json").stdout)]
    assert years == sorted(years)


def test_full_reproduction_needs_checkpoints_and_a_benchmark(gleanet: Gleanet, tmp_path: Path) -> None:
    assert_one_line(gleanet("papers", "reproduce", "fcr", "--out", tmp_path / "one"), "--weights", "--quick")
    assert_one_line(gleanet("papers", "reproduce", "wilson1927", "--quick", "--out", tmp_path / "two"), "no claim", "gleanet papers show")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert_one_line(gleanet("papers", "reproduce", "fcr", "--quick", "--out", tmp_path / "full"), "is not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_an_installed_package_has_the_catalogue_but_no_benchmarks(gleanet: Gleanet, tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(PACKAGE, site / "gleanet", ignore=shutil.ignore_patterns("__pycache__"))
    found = json.loads(gleanet("papers", "show", "fcr", "--json", cwd=site, PYTHONPATH=str(site)).stdout)
    assert found["claims"][1]["verdict"]["outcome"] == verdicts()["fcr-over-l2"].outcome
    done = gleanet("papers", "reproduce", "fcr", "--weights", tmp_path, "--out", tmp_path / "out", cwd=site, PYTHONPATH=str(site))
    assert_one_line(done, "need a checkout", os.fspath(site / "benchmarks"), "--quick")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_quick_reproduction_runs_its_commands_and_says_what_is_on_record(gleanet: Gleanet, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = gleanet("papers", "reproduce", "l1", "--quick", "--json", "--out", folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [step["exit_code"] for step in found["steps"]] == [0, 0, 0]
    assert found["claims"][0]["recorded"]["outcome"] == verdicts()["l1-over-random"].outcome
    assert {path.name for path in folder.iterdir()} == {"base", "l1", "random"}
    assert (folder / "l1" / "model.gleanet").is_file()


@pytest.mark.slow
def test_quick_reproduction_ends_with_what_the_runs_gave(gleanet: Gleanet, tmp_path: Path) -> None:
    done = gleanet("papers", "reproduce", "refit", "--quick", "--out", tmp_path / "none")
    assert_one_line(done, "no paper 'refit'")
    done = gleanet("papers", "reproduce", "he2017channel", "--quick", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("folder: ") and line.endswith("out"))
    rows = [line.split() for line in lines[at:] if " images)" in line]
    for name, accuracy, *_ in rows:
        record = json.loads((tmp_path / "out" / name / "run.json").read_text())
        assert float(accuracy) == pytest.approx(100 * record["results"]["accuracy"]["value"], abs=0.005)
    assert [row[0] for row in rows] == ["base", "refitted", "dropped"]
    assert lines.index(next(line for line in lines if line.startswith("$ gleanet train"))) == 0, "what runs is said before it speaks"
    assert "refit-over-dropping: on record CONFIRMED" in done.stdout
