"""What a budget bounds: an amount with a name that falls with the widths. Allocation knows no other kind of cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from gleanet.core.errors import SettingsError
from gleanet.core.records import LatencyTable
from gleanet.core.settings import BOUNDS, Bound, in_range
from gleanet.prune.budget import CostModel
from gleanet.prune.latency import TimeModel

MEASURED_TO = 0.02
TOLERANCE = 0.01  # DESIGN 5.1: the budget is met within 1 % of the whole, from below


@dataclass(frozen=True)
class Quantity:
    """An amount that a choice of widths costs.

    Attributes:
        noun: its name in messages: "MACs".
        whole: the amount of the network as it is.
        of: the amount as a function of the channels that each group keeps (all, of a group that is not named).
        price: what a group costs at a width while the others are whole; ranking divides by differences of it.
        known: whether the amount of a group at this width is known; a time is known where it was measured.
        shown: an amount in units, for messages.
        noise: a step that saves less than this part of what a group can save is none.
    """

    noun: str
    whole: float
    of: Callable[[Mapping[str, int]], float]
    price: Callable[[str, int], float]
    known: Callable[[str, int], bool] = lambda name, width: True
    shown: Callable[[float], str] = lambda amount: ""
    noise: float = 0.0


def quantity(cost: CostModel, bound: Bound, *, table: LatencyTable | None = None) -> Quantity:
    """The amount that ``bound`` names.

    Args:
        cost: the cost model of the network.
        table: what each width takes; needed by "latency".

    Raises:
        SettingsError: "latency" without a table, or with one of another network.
    """
    if bound == "flops":
        return Quantity("MACs", cost.macs_before, cost.macs, _alone(cost.macs))
    if bound == "params":
        return Quantity("parameters", cost.params_before, cost.params, _alone(cost.params))
    if bound == "bytes":
        size = cost.int8_bytes
        return Quantity("bytes of the 8-bit file", size({}), size, _alone(size), shown=lambda amount: f" ({amount:,.0f} bytes)")
    if table is None:
        raise SettingsError("a latency is planned from measured widths: pass table=gleanet.latency_table(model, example_input)")
    time = TimeModel(cost, table)
    return Quantity(
        "float latency", time.ms({}), time.ms, _alone(time.ms), time.measured, lambda amount: f" ({amount:.3f} ms)", MEASURED_TO
    )


def fraction(cost: CostModel, bound: Bound, target: float) -> float:
    """The target as a fraction of the whole: more than one byte is a size.

    Raises:
        SettingsError: the target is out of range.
    """
    if not in_range(bound, target):
        raise SettingsError(f"{bound}={target} is out of range: it is {BOUNDS[bound]}")
    return min(1.0, target / cost.int8_bytes({})) if target > 1 else target


def _alone(of: Callable[[Mapping[str, int]], float]) -> Callable[[str, int], float]:
    """The price of a width is the amount itself, with the other groups whole."""
    return cache(lambda name, width: of({name: width}))
