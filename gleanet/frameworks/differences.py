"""Which differences between rows are real: neighbours in such a table are often within noise of each other.

Every round runs each row once, in turn, so that a slow minute of the machine hits all of them. Two rows differ if the 99 % interval of the
mean log ratio of their times over the rounds (Student's t, paired by round) excludes 0; 99 and not 95, because twenty rows have 190 pairs.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

# Two-sided 99 % quantiles of Student's t for 1, 2, ... degrees of freedom; beyond the last one that is used, which is on the safe side.
_T99 = (63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055, 3.012, 2.977, 2.947, 2.921)


LEAST_ROUNDS = 3  # of two rounds the quantile of Student's t is 64, and no interval says anything


def ratio_interval(times: Sequence[float], others: Sequence[float]) -> tuple[float, float] | None:
    """99 % interval of the ratio of ``times`` to ``others``, both in ms and paired by round; None with fewer than three rounds."""
    n = min(len(times), len(others))
    if n < LEAST_ROUNDS:
        return None
    logs = np.log(np.asarray(times[:n]) / np.asarray(others[:n]))
    half = _T99[min(n - 1, len(_T99)) - 1] * float(logs.std(ddof=1)) / math.sqrt(n)
    return math.exp(float(logs.mean()) - half), math.exp(float(logs.mean()) + half)


def places(times: Mapping[str, Sequence[float]]) -> dict[str, tuple[int, int]]:
    """Row -> (best, worst) place that the rounds allow: after all rows that are really faster, before all that are really slower."""
    found = {}
    for row, own in times.items():
        intervals = [ratio_interval(own, other) for name, other in times.items() if name != row]
        slower_than = sum(interval is not None and interval[0] > 1 for interval in intervals)
        faster_than = sum(interval is not None and interval[1] < 1 for interval in intervals)
        found[row] = (1 + slower_than, len(times) - faster_than)
    return found


def ratios(times: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Row -> 99 % interval of the ratio of its times to those of the row with the smallest median; that row itself is left out."""
    if not times:
        return {}
    fastest = min(times, key=lambda row: float(np.median(times[row])))
    found = {row: ratio_interval(own, times[fastest]) for row, own in times.items() if row != fastest}
    return {row: interval for row, interval in found.items() if interval is not None}
