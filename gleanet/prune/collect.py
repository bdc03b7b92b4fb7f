"""The mixed contribution collector of Filter Contribution Recycle (Z. Chen et al., KSII TIIS 16(11), 2022; DESIGN 5.3, steps 3 and 4)."""

import torch
from torch import Tensor, nn

from gleanet.prune.groups import Group, Grouping
from gleanet.prune.importance import l2, scores
from gleanet.prune.layers import channel_rows, set_channel_rows
from gleanet.prune.plan import Plan


def collect_and_assign(rows: Tensor, keep: Tensor, drop: Tensor, score: Tensor, strength: float, aligned: bool) -> Tensor:
    """What the preserved filters of one layer become.

    The collector ``M = sum_{i in S} (s_i / sum_S s) W_i`` is added to each preserved filter in proportion to its keep probability:
    ``W_j += strength * (p_j / max_P p) * a_j * M``, where ``a_j`` is 1, or ``max(0, cos(W_j, M))`` if ``aligned``.

    Args:
        rows: filters [C, D].
        keep: the preserved filters P.
        drop: the small filters S.
        score: s >= 0 of all channels [C]; p is proportional to it.
        strength: rho.
        aligned: use the alignment factor.

    Returns:
        the filters P, [len(keep), D].
    """
    score = score.to(rows)
    small, big = score[drop], score[keep]
    if float(small.sum()) <= 0 or float(big.max()) <= 0:
        return rows[keep]
    collector = (small / small.sum()) @ rows[drop]
    share = big / big.max()
    if aligned:
        share = share * torch.nn.functional.cosine_similarity(rows[keep], collector[None]).clamp(min=0)
    return rows[keep] + strength * share[:, None] * collector


@torch.no_grad()
def recycle_group(model: nn.Module, group: Group, keep: tuple[int, ...], score: Tensor, strength: float, aligned: bool) -> None:
    """Collect from the channels of a group that are not kept and assign to those that are, in every layer that produces them, in place."""
    kept = torch.zeros(group.channels, dtype=torch.bool)
    kept[list(keep)] = True
    for member in group.producers():
        module, index = model.get_submodule(member.path), torch.tensor(member.index)
        rows = channel_rows(module, index)
        stay, go = kept.nonzero().flatten(), (~kept).nonzero().flatten()
        set_channel_rows(module, index[stay], collect_and_assign(rows, stay.to(rows.device), go.to(rows.device), score, strength, aligned))


def recycle_weights(model: nn.Module, plan: Plan, grouping: Grouping, *, strength: float = 1.0) -> None:
    """Collect and assign once, in place: kept filters take a share of the dropped ones' mixture; scores are norms of the filters."""
    norms = scores(grouping.groups, model, l2, seed=0)
    known = grouping.named()
    for part in plan.groups:
        if len(part.keep) < part.channels:
            recycle_group(model, known[part.name], part.keep, norms[part.name], strength, aligned=False)
