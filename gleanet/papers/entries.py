"""What the catalogue holds: papers, what they claim, and what came out when we ran the claims again. Plain data."""

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["article", "inproceedings", "techreport", "misc"]
Outcome = Literal["confirmed", "refuted", "undecided", "not tested"]


@dataclass(frozen=True)
class Claim:
    """One thing that a paper says and that can be measured.

    Attributes:
        id: unique in the whole catalogue; the key of its verdict.
        text: the claim and how we test it, in our words.
        quick: gleanet commands (without ``gleanet``) that show the effect on the digits within minutes; ``{out}`` is the run's folder.
        full: benchmark commands (without ``python``) that make the result files anew; ``{weights}`` is the folder of public checkpoints,
            ``{python}`` this interpreter.
        result: the result files the verdict comes from, a pattern below ``benchmarks/results``.
        path: where in those files the numbers stand.
        rule: how ``benchmarks/verdicts.py`` judges it, with its arguments; empty where nothing judges it.
    """

    id: str
    text: str
    quick: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    result: str = ""
    path: str = ""
    rule: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Paper:
    """One entry. Fields that we are not sure of are empty.

    Attributes:
        id: first author, year, first telling word of the title: ``chen2022filter``.
        title: in English; ``title_ko`` in Korean, where the paper has one. Likewise ``authors`` ("Given Family") and ``authors_ko``.
        venue: journal, conference or publisher.
        summary: two to four sentences of our own.
        names: what the product calls the paper's methods, by kind: ``{"criterion": ["l1"]}``.
        used: modules of gleanet that use the paper.
    """

    id: str
    kind: Kind
    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    summary: str
    title_ko: str = ""
    authors_ko: tuple[str, ...] = ()
    volume: str = ""
    number: str = ""
    pages: str = ""
    doi: str = ""
    arxiv: str = ""
    url: str = ""
    keywords: tuple[str, ...] = ()
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    used: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()

    @property
    def link(self) -> str:
        """Where to read it: the DOI, else arXiv, else the page; empty where we know none."""
        if self.doi:
            return f"https://doi.org/{self.doi}"
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else self.url


@dataclass(frozen=True)
class Verdict:
    """What came out for one claim.

    Attributes:
        outcome: confirmed, refuted, undecided (the measurement cannot tell) or not tested.
        figure, low, high: the measured number with its interval, in ``unit``; None where there is none.
        interval: what the interval is: "95 %" of what, or the range over what.
        why: one line that says what was compared and why it is this outcome.
        files: the result files, below ``benchmarks/results``.
        date: day on which the verdict became what it is.
    """

    outcome: Outcome
    why: str
    figure: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    interval: str = ""
    files: tuple[str, ...] = ()
    date: str = ""

    @property
    def measured(self) -> str:
        """The figure with its interval: ``+0.53 points (+0.09 to +0.98; 95 % over 10,000 images)``; empty where nothing was measured."""
        if self.figure is None:
            return ""
        middle = f"{self._number(self.figure)} {self.unit}".rstrip()
        if self.low is None or self.high is None:
            return middle
        return f"{middle} ({self._number(self.low)} to {self._number(self.high)}; {self.interval})"

    def _number(self, value: float) -> str:
        """Differences with their sign; to the hundredth where there is a unit, else four digits."""
        sign = "+" if self.unit in ("points", "dB") else ""
        return f"{value:{sign}.2f}" if self.unit else f"{value:.4g}"
