"""What came out for the claims of the papers: reads the result files that the claims name and writes gleanet/papers/verdicts.json.

    python benchmarks/verdicts.py            # write
    python benchmarks/verdicts.py --check    # exit 1 where the file would change
    python benchmarks/verdicts.py --results DIR --out FILE    # from other results, e.g. those of `gleanet papers reproduce`

The rules are in verdict_rules.py: a difference counts where its 95 % interval excludes 0; a bound ("hardly changes", "at least twice as
fast") where every case keeps it, the far end of its interval included. One seed decides nothing about training.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from verdict_rules import RULES, Files, Missing, files_of

from gleanet.core.files import write_bytes
from gleanet.papers import Claim, Verdict, papers

RESULTS = Path(__file__).parent / "results"
RECORD = Path(__file__).parent.parent / "gleanet" / "papers" / "verdicts.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    found, kept = derived(options.results), recorded(options.out)
    if options.check:
        stale = sorted(name for name in found.keys() | kept.keys() if found.get(name) != undated(kept.get(name)))
        sys.stderr.writelines(f"the verdict on {name} is not what `python benchmarks/verdicts.py` writes\n" for name in stale)
        return 1 if stale else 0
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    dated = {name: kept[name] if undated(kept.get(name)) == each else replace(each, date=today) for name, each in found.items()}
    write_bytes(options.out, msgspec.json.format(msgspec.json.encode(dated), indent=1) + b"\n")
    return 0


def derived(results: Path) -> dict[str, Verdict]:
    """Claim id -> verdict, without its date, for every claim of the catalogue."""
    return {claim.id: judged(claim, results) for paper in papers() for claim in paper.claims}


def judged(claim: Claim, results: Path) -> Verdict:
    """The verdict on one claim. A file, row or key that is not there yet means: not tested."""
    if not claim.rule:
        return Verdict("not tested", "nothing measures it yet")
    paths = files_of(claim.result, results)
    if not paths:
        return Verdict("not tested", f"there is no result file {claim.result} yet")
    names = tuple(str(path.relative_to(results)) for path in paths)
    loaded: Files = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in zip(names, paths, strict=True)}
    arguments = {key: value for key, value in claim.rule.items() if key != "kind"}
    rule: Callable[..., Verdict] = RULES[str(claim.rule["kind"])]
    try:
        return replace(rule(loaded, **arguments), files=names)
    except Missing as missing:
        return Verdict("not tested", str(missing), files=names)


def recorded(path: Path) -> dict[str, Verdict]:
    """The verdicts of an earlier call; none where there is no file."""
    if not path.is_file():
        return {}
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return msgspec.convert(raw, type=dict[str, Verdict])


def undated(verdict: Verdict | None) -> Verdict | None:
    return None if verdict is None else replace(verdict, date="")


if __name__ == "__main__":
    sys.exit(main())
