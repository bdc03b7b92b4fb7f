"""Records survive JSON, and JSON that is not a record is refused in one line."""

import json
import re
from typing import Any

import pytest

from gleanet.core.errors import StoreError
from gleanet.core.records import FORMAT_VERSION, Preprocess, Run, dumps, loads
from tests.report.example import example_run


def changed(path: str, value: object) -> bytes:
    """The example run's JSON with one field replaced; a path like ``rows.0.measured.macs``."""
    raw: Any = json.loads(dumps(example_run()))
    *steps, last = path.split(".")
    inner = raw
    for step in steps:
        inner = inner[int(step) if step.isdigit() else step]
    inner[last] = value
    return json.dumps(raw).encode()


def test_a_run_survives_json() -> None:
    run = example_run()
    assert loads(dumps(run), Run, "run.json") == run
    assert loads(dumps(Preprocess()), Preprocess, "metadata") == Preprocess()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seconds", "long"),
        ("rows", {}),
        ("rows.0.measured.macs", 1.5),
        ("rows.0.measured.accuracy.correct", None),
        ("trials.0.nodes", {"Conv": "many"}),
        ("notes", "one"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(path: str, value: object) -> None:
    with pytest.raises(StoreError, match=re.escape(path.rpartition(".")[2]) + "|rows|notes") as caught:
        loads(changed(path, value), Run, "some/run.json")
    assert str(caught.value).startswith("some/run.json is not a Run record")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[1, 2]", b"null", b'"text"', b"\xff\xfe", b'{"id": "x"}', dumps(example_run())[:500]])
def test_what_is_not_a_record_is_one_line(data: bytes) -> None:
    with pytest.raises(StoreError) as caught:
        loads(data, Run, "run.json")
    assert "\n" not in str(caught.value)


def test_a_newer_format_says_upgrade_even_where_its_fields_are_unknown() -> None:
    with pytest.raises(StoreError, match=r"newer gleanet \(format 99, .*\d.*\): upgrade"):
        loads(b'{"format_version": 99, "id": ["now", "a", "list"]}', Run, "run.json")
    assert loads(changed("format_version", FORMAT_VERSION), Run, "run.json").format_version == FORMAT_VERSION


def test_fields_added_by_a_later_minor_change_are_ignored() -> None:
    assert loads(changed("added_later", 1), Run, "run.json") == example_run()


def test_runs_of_older_versions_still_load() -> None:
    old = json.loads(dumps(example_run()))
    del old["table"]
    assert loads(json.dumps(old).encode(), Run, "run.json").table is None
