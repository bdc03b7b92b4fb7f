"""Verdicts: what is recorded is what the committed results say, and the rules judge by what they are given alone."""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gleanet.papers import Verdict, papers, verdict, verdicts

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
CLAIMS = [claim for paper in papers() for claim in paper.claims]
RULES = """
import json, sys
sys.path.insert(0, "benchmarks")
import msgspec, verdict_rules
files, rule = json.load(sys.stdin)
kind = rule.pop("kind")
sys.stdout.write(msgspec.json.encode(verdict_rules.RULES[kind](files, **rule)).decode())
"""


def write_verdicts(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/verdicts.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def judged(files: dict[str, Any], **rule: object) -> Verdict:
    done = subprocess.run(
        [sys.executable, "-c", RULES], input=json.dumps([files, rule]), cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return Verdict(**{**found, "files": tuple(found["files"])})


def runs(method: str, *accuracies: float, images: int = 8000) -> dict[str, Any]:
    """Result files of a method, a seed each; the hits are drawn, so that methods differ on single images."""
    files = {}
    for seed, accuracy in enumerate(accuracies):
        hits = np.random.default_rng([seed, len(method)]).random(images) < accuracy
        files[f"{method}-{seed}.json"] = {
            "method": method,
            "settings": {"seed": seed, "network": "net"},
            "data": {"title": "data", "test": images},
            "recipe": {"epochs": 2.0},
            "hits": base64.b64encode(np.packbits(hits).tobytes()).decode(),
        }
    return files


def test_the_record_is_what_the_committed_results_say() -> None:
    done = write_verdicts("--check")
    assert done.returncode == 0, done.stderr


def test_the_record_has_every_claim_and_names_files_that_are_there() -> None:
    assert set(verdicts()) == {claim.id for claim in CLAIMS}
    for claim in CLAIMS:
        found = verdict(claim.id)
        assert found.date
        assert found.why
        assert all((RESULTS / file).is_file() for file in found.files)
        if found.outcome != "not tested":
            assert found.files
        if found.low is not None and found.high is not None and found.figure is not None:
            assert found.low <= found.figure <= found.high


def test_a_changed_result_is_noticed_and_an_absent_one_is_not_tested(tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results)
    file = results / "percentile.json"
    changed = json.loads(file.read_text())
    for row in changed["rows"]:
        row["sqnr_db"] += 5.0 if row["range"] == "entropy" else 0.0
    file.write_text(json.dumps(changed))
    shutil.rmtree(results / "pruning_recovery")
    done = write_verdicts("--check", "--results", results)
    assert done.returncode == 1
    assert "the verdict on entropy-over-min-max is not" in done.stderr
    assert "the verdict on fcr-over-l2 is not" in done.stderr
    assert "mse-over" not in done.stderr
    written = tmp_path / "verdicts.json"
    assert write_verdicts("--results", results, "--out", written).returncode == 0
    found = json.loads(written.read_text())
    assert found["entropy-over-min-max"]["outcome"] == "confirmed"
    assert found["fcr-over-l2"]["outcome"] == "not tested"
    assert found["fcr-over-l2"]["figure"] is None


def test_a_date_stays_until_the_verdict_changes(tmp_path: Path) -> None:
    record = tmp_path / "verdicts.json"
    assert write_verdicts("--out", record).returncode == 0
    old = json.loads(record.read_text())
    for each in old.values():
        each["date"] = "2001-01-01"
    old["fcr-over-l2"]["outcome"] = "refuted"
    record.write_text(json.dumps(old))
    assert write_verdicts("--out", record).returncode == 0
    new = json.loads(record.read_text())
    assert [name for name, each in new.items() if each["date"] != "2001-01-01"] == ["fcr-over-l2"]


def test_a_difference_turns_round_with_its_sides() -> None:
    files = runs("one", 0.9, 0.91, 0.905) | runs("other", 0.8, 0.81, 0.805)
    ahead = judged(files, kind="recovery", new="one", old="other", expect="higher")
    behind = judged(files, kind="recovery", new="other", old="one", expect="higher")
    assert (ahead.outcome, behind.outcome) == ("confirmed", "refuted")
    assert ahead.figure == pytest.approx(-float(behind.figure or 0))
    assert (ahead.low, ahead.high) == pytest.approx((-float(behind.high or 0), -float(behind.low or 0)))
    assert ahead.figure == pytest.approx(10, abs=1.5)
    assert judged(files, kind="recovery", new="other", old="one", expect="lower").outcome == "confirmed"


def test_one_seed_or_none_in_common_or_seeds_that_disagree_decide_nothing() -> None:
    one = judged(runs("one", 0.9) | runs("other", 0.5, 0.5), kind="recovery", new="one", old="other", expect="higher")
    assert one.outcome == "undecided"
    assert "one seed" in one.why
    apart = judged(runs("one", 0.9, 0.6) | runs("other", 0.7, 0.7), kind="recovery", new="one", old="other", expect="higher")
    assert apart.outcome == "undecided"


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (-0.005, 0.004, "confirmed"),
        (-0.02, 0.0, "undecided"),
        (-0.03, -0.011, "refuted"),
        (0.011, 0.03, "refuted"),
        (-0.01, 0.01, "confirmed"),
    ],
)
def test_hardly_any_change_means_the_whole_interval(low: float, high: float, outcome: str) -> None:
    change = {"delta": (low + high) / 2, "low": low, "high": high, "n": 1000}
    calm = {"delta": 0.0, "low": -0.001, "high": 0.001, "n": 1000}
    rows = [{"name": "a", "change": calm}, {"name": "b", "change": change}]
    files = {"net.json": {"settings": {"network": "net"}, "parts": {"measure": {"rows": rows}}}}
    assert judged(files, kind="change", rows="*", within=1.0).outcome == outcome


@pytest.mark.parametrize(
    ("ms", "outcome"), [((4.0, 4.0), "confirmed"), ((9.0, 4.0), "undecided"), ((4.95, 4.0), "undecided"), ((9.0, 8.0), "refuted")]
)
def test_faster_means_at_every_batch_size_and_beyond_the_noise(ms: tuple[float, float], outcome: str) -> None:
    rows = [
        {"name": name, "latencies": [{"batch": batch, "p50_ms": value} for batch, value in zip((1, 64), times, strict=True)]}
        for name, times in (("float", (10.0, 10.0)), ("int8", ms))
    ]
    files = {"net.json": {"settings": {"network": "net"}, "parts": {"measure": {"rows": rows, "machine": {"cpu": "some"}}}}}
    assert judged(files, kind="speed", rows="int8", at_least=2.0).outcome == outcome


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Verdict("confirmed", "", 0.5, -0.1, 1.104, "points", "95 %"), "+0.50 points (-0.10 to +1.10; 95 %)"),
        (Verdict("confirmed", "", 2.0, 2.0, 3.0, "times", "range"), "2.00 times (2.00 to 3.00; range)"),
        (Verdict("confirmed", "", 0.00012345), "0.0001234"),
        (Verdict("undecided", "", -1.0, None, None, "points"), "-1.00 points"),
        (Verdict("not tested", ""), ""),
    ],
)
def test_a_figure_in_words(found: Verdict, text: str) -> None:
    assert found.measured == text


def test_conclusions_are_taken_over_and_never_of_another_sentence() -> None:
    conclusions = [
        {"claim": "Speed is equal", "verdict": "refuted", "evidence": "2 times"},
        {"claim": "GPUs", "verdict": "not testable here", "evidence": ""},
    ]
    files = {"f": {"results": {"conclusions": conclusions}}}
    assert judged(files, kind="concluded", number=0, about="Speed") == Verdict("refuted", "2 times")
    assert judged(files, kind="concluded", number=1, about="GPUs").outcome == "undecided"
    for number, about in ((0, "GPUs"), (2, "Speed")):
        with pytest.raises(subprocess.CalledProcessError):
            judged(files, kind="concluded", number=number, about=about)


def trained(activation: str, seed: int, accuracy: float, trouble: str = "") -> dict[str, Any]:
    return {"settings": {"activation": activation, "seed": seed}, "accuracy": accuracy, "trouble": trouble}


def test_activations_are_paired_by_seed_without_trainings_that_failed() -> None:
    rule = {"kind": "activations", "new": "new", "old": "old", "expect": "higher"}
    runs = [trained("old", seed, 0.5 + seed / 10) for seed in range(3)] + [trained("new", seed, 0.52 + seed / 10) for seed in range(3)]
    files = {f"{at}.json": run for at, run in enumerate(runs)}
    found = judged(files, **rule)
    assert (found.outcome, found.figure) == ("confirmed", 2.0)
    failed = {**files, "6.json": trained("new", 3, 0.1, "diverged"), "7.json": trained("old", 3, 0.8)}
    assert judged(failed, **rule).figure == 2.0
    assert judged({"a.json": runs[0], "b.json": runs[3]}, **rule).outcome == "undecided"
