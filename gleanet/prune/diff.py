"""What two plans of one network have in common: widths, channels, costs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GroupDiff:
    """One group in two plans: how many channels each keeps, how many of those are the same, MACs of the layer that produces them."""

    name: str
    channels: int
    keep: tuple[int, int]
    shared: int
    macs: tuple[int, int]


@dataclass(frozen=True)
class PlanDiff:
    """Two plans side by side. ``str(diff)`` is a table.

    ``labels`` says how each was chosen. A plan of random channels shares ``keep[0] * keep[1] / channels`` of a group with any other, on
    average: that is the figure to compare ``shared`` with.
    """

    labels: tuple[str, str]
    groups: tuple[GroupDiff, ...]
    macs_before: int
    macs: tuple[int, int]
    params: tuple[int, int]

    @property
    def same(self) -> bool:
        """Whether both keep the same channels."""
        return all(group.keep == (group.shared, group.shared) for group in self.groups)

    def __str__(self) -> str:
        lines = [f"A: {self.labels[0]}", f"B: {self.labels[1]}"]
        lines.append(f"{'group':<28}{'channels':>9}{'keep A':>8}{'keep B':>8}{'shared':>8}{'MACs A':>11}{'MACs B':>11}")
        lines += [
            f"{g.name:<28}{g.channels:>9}{g.keep[0]:>8}{g.keep[1]:>8}{g.shared:>8}{g.macs[0] / 1e6:>9.2f} M{g.macs[1] / 1e6:>9.2f} M"
            for g in self.groups
        ]
        channels, shared = sum(g.channels for g in self.groups), sum(g.shared for g in self.groups)
        keep = [sum(g.keep[which] for g in self.groups) for which in (0, 1)]
        lines.append(f"{'all':<28}{channels:>9}{keep[0]:>8}{keep[1]:>8}{shared:>8}{self.macs[0] / 1e6:>9.2f} M{self.macs[1] / 1e6:>9.2f} M")
        shares = " and ".join(f"{macs / self.macs_before:.1%}" for macs in self.macs)
        lines.append(
            f"MACs {shares} of {self.macs_before / 1e6:.2f} M; parameters {self.params[0]:,} and {self.params[1]:,}; "
            + ("the same channels" if self.same else "different channels")
        )
        return "\n".join(lines)
