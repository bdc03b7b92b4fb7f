"""The paper's conclusions are judged by what was measured, and left open where nothing was."""

from dataclasses import replace

from gleanet.core.framework_entries import Calls, Check, Entry, Spread
from gleanet.frameworks.conclusions import conclusions

CHECK = Check("float32", 1e-7, "right", "first", 0.0, 2e-6)


def entry(name: str, cpu_ms: float, tokens: int) -> Entry:
    calls = Calls(Spread(cpu_ms, cpu_ms), Spread(cpu_ms, cpu_ms), 0.1)
    return Entry(name, name, "default", status="ok", max_relative_gradient_error=2e-6, check=CHECK, tokens=tokens, lines=9, step=calls)


def verdicts(*entries: Entry) -> list[str]:
    return [each.verdict for each in conclusions(entries)]


THEANO, TENSORFLOW, CNTK = entry("theano-0.9", 100, 300), entry("tensorflow-1.2", 110, 250), entry("cntk", 120, 200)


def test_confirmed_where_the_figures_say_so() -> None:
    slow = entry("cntk", 120, 200)
    assert verdicts(THEANO, TENSORFLOW, slow)[:3] == ["confirmed"] * 3
    assert verdicts(THEANO, TENSORFLOW, replace(slow, step=entry("cntk", 5000, 200).step))[3] == "confirmed"


def test_refuted_where_they_say_otherwise() -> None:
    found = conclusions([THEANO, entry("tensorflow-1.2", 200, 320), CNTK])
    assert [each.verdict for each in found[1:4]] == ["refuted"] * 3
    assert "cntk 200 tokens in 9 lines, tensorflow-1.2 320 tokens" in found[1].evidence
    assert "the slowest takes 2.0 times the fastest" in found[2].evidence
    assert "1.2 times that of theano-0.9, 0.6 times that of tensorflow-1.2, and 1.2 times that of the fastest" in found[3].evidence


def test_code_is_compared_in_the_shorter_of_two_styles() -> None:
    low_level = replace(entry("tensorflow-1.2", 110, 330), mode="graph")
    layers = replace(entry("tensorflow-1.2", 130, 250), mode="layers")
    code = conclusions([THEANO, low_level, layers, CNTK])[1]
    assert code.verdict == "confirmed"
    assert "tensorflow-1.2, layers 250 tokens in 9 lines, tensorflow-1.2 330 tokens" in code.evidence
    assert conclusions([THEANO, low_level, CNTK])[1].verdict == "refuted"
    assert "tensorflow-1.2 110 ms" in conclusions([THEANO, low_level, layers, CNTK])[2].evidence, "speed: the first mode"


def test_a_modern_rival_alone_does_not_judge_the_paper() -> None:
    modern = entry("pytorch", 1, 150)
    assert verdicts(modern, CNTK)[3] == "not testable here"
    assert verdicts(THEANO, modern, CNTK)[3] == "refuted"


def test_open_where_one_of_the_three_did_not_run_or_was_not_timed() -> None:
    found = conclusions([THEANO, CNTK, replace(TENSORFLOW, status="wrong")])
    assert [each.verdict for each in found[:3]] == ["not testable here"] * 3
    assert found[0].evidence == "this comparison has no result of tensorflow-1.2"
    assert verdicts(THEANO, TENSORFLOW, replace(CNTK, step=None))[2:4] == ["not testable here"] * 2
    assert set(verdicts()) == {"not testable here"}


def test_several_machines_are_never_claimed_to_have_been_tested() -> None:
    assert verdicts(THEANO, TENSORFLOW, CNTK)[4] == "not testable here"
