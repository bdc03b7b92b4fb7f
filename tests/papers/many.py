"""A thousand papers that nobody wrote, with the lengths and the word frequencies of real ones."""

import random
from dataclasses import replace

from gleanet.papers import Paper, papers

COUNT = 1000


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
