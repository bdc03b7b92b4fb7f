"""How long a search over a thousand papers takes: everything from the records in memory to the ranked answer.

    python benchmarks/papers_search.py

The papers are made up from the words of the real catalogue, with its lengths. Result: benchmarks/results/papers_search.json.
"""

import json
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.papers import Paper, papers, search

RESULT = Path(__file__).parent / "results" / "papers_search.json"
COUNT, ROUNDS = 1000, 21
QUERIES = (
    "CIFAR10",
    "pruning",
    "quantiz onnx",
    "양자화를",
    '"neural networks"',
    "the of",
    "separable convolution for training",
    "nosuchword",
)


def main() -> int:
    made, rows = thousand(), []
    for query in QUERIES:
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            found = search(made, query)
            times.append(1000 * (time.perf_counter() - began))
        rows.append(
            {"query": query, "found": len(found.hits), "median_ms": median(times), "lowest_ms": min(times), "highest_ms": max(times)}
        )
        sys.stderr.write(f"{rows[-1]}\n")
    about = {"what": "time of one search", "settings": {"papers": COUNT, "rounds": ROUNDS}, "versions": versions(), "machine": machine()}
    write_bytes(RESULT, json.dumps({**about, "rows": rows}, indent=1, ensure_ascii=False).encode() + b"\n")
    return 0


def thousand(seed: int = 0, count: int = COUNT) -> tuple[Paper, ...]:
    """Papers whose texts are drawn from the words of the real catalogue, Korean ones among them; every tenth word is new."""
    draw = random.Random(seed)
    real = papers()
    words = [word for paper in real for word in f"{paper.title} {paper.summary}".split()]
    names = [name for paper in real for name in paper.authors]
    korean = [word for paper in real for word in paper.title_ko.split()]

    def text(length: int) -> str:
        return " ".join(draw.choice(words) if draw.random() < 0.9 else f"word{draw.randrange(5000)}" for _ in range(length))

    return tuple(
        replace(
            draw.choice(real),
            id=f"made{number:04d}",
            title=text(draw.randint(5, 14)),
            title_ko=" ".join(draw.choices(korean, k=6)) if draw.random() < 0.2 else "",
            authors=tuple(draw.choices(names, k=draw.randint(1, 6))),
            authors_ko=(),
            year=draw.randint(1950, 2026),
            summary=text(draw.randint(30, 90)),
            keywords=tuple(text(draw.randint(1, 3)) for _ in range(6)),
            claims=(),
        )
        for number in range(count)
    )


if __name__ == "__main__":
    sys.exit(main())
