"""Timing returns as many samples as asked for, in turns, and percentiles in order. Nothing here asserts how fast anything is."""

from pathlib import Path

import numpy as np
import pytest

from gleanet.measure import latency
from gleanet.measure.timing import MIN_ROUNDS, interleaved, summary
from tests.tiny_onnx import convnet, save


def test_records_are_what_was_asked_for(tmp_path: Path) -> None:
    paths = [save(convnet(), tmp_path / "a.onnx"), save(convnet(pixels=True), tmp_path / "b.onnx")]
    found = latency(paths, batches=(1, 3), rounds=7)
    assert list(found) == paths
    for records in found.values():
        assert [(r.batch, r.threads, r.repeats) for r in records] == [(1, 1, 7), (3, 1, 7)]
        assert all(0 < r.p50_ms <= r.p90_ms for r in records)


def test_a_fixed_batch_is_timed_at_its_own_size_only(tmp_path: Path) -> None:
    path = save(convnet(batch=4), tmp_path / "a.onnx")
    assert [r.batch for r in latency([path], batches=(1, 4), rounds=2)[path]] == [4]


def test_candidates_take_turns() -> None:
    order: list[str] = []
    names = "abc"
    found = interleaved({name: lambda name=name: order.append(name) for name in names}, rounds=6)  # type: ignore[misc]
    assert all(len(times) == 6 for times in found.values())
    rounds = order[3 * len(names) :]  # after the warm-up
    for start in range(0, len(rounds), 6):  # each is called once uncounted and once counted per round
        assert sorted(rounds[start : start + 6]) == sorted(names * 2)
    assert len({tuple(rounds[start : start + 6]) for start in range(0, len(rounds), 6)}) > 1, "the order must change"


def test_adaptive_rounds_stop_and_hopeless_candidates_leave() -> None:
    def slow() -> None:
        np.linalg.svd(np.ones((120, 120)))

    found = interleaved({"fast": lambda: None, "slow": slow}, seconds=0.01, give_up=1.5)
    assert len(found["slow"]) == 5
    assert len(found["fast"]) >= MIN_ROUNDS


def test_summary_is_in_milliseconds() -> None:
    record = summary(np.arange(1, 102) / 1000, batch=8, threads=2)
    assert record.p50_ms == pytest.approx(51)
    assert record.p90_ms == pytest.approx(91)
    assert (record.repeats, record.batch, record.threads) == (101, 8, 2)
