"""What a run costs, runs by turns, and the rows that come of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Cost(NamedTuple):
    """Microseconds per call: the CPU's, and the clock's."""

    cpu: float
    wall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        part: The heading that it stands under.
        what: What was measured.
        measured: The median, with its unit.
        spread: The smallest and the largest of the rounds.
        wall: The same by the clock, or an absolute figure.
        aim: What it should be.
        is_reached: Whether it is; None without an aim.
        value: The median as a number.
    """

    part: str
    what: str
    measured: str
    spread: str = ""
    wall: str = ""
    aim: str = ""
    is_reached: bool | None = None
    value: float = 0.0


def by_turns(cases: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, list[Cost]]:
    """Run all cases in each round, in turned order in every second one; the first round only warms up."""
    costs: dict[str, list[Cost]] = {name: [] for name in cases}
    for number in range(-1, rounds):
        for name in cases if number % 2 else reversed(list(cases)):
            cost = cases[name]()
            if number >= 0:
                costs[name].append(cost)
    return costs


def speed_row(
    part: str,
    what: str,
    ours: Sequence[Cost],
    base: Sequence[Cost],
    *,
    least: float | None = None,
    by_clock: bool = False,
) -> Row:
    """Return how many times as fast as the base something is; `by_clock`: the aim is for time."""
    return _ratio_row(part, what, base, ours, f"{_median(ours):.1f} µs", ("≥", least), by_clock=by_clock)


def cost_row(
    part: str, what: str, ours: Sequence[Cost], base: Sequence[Cost], *, most: float | None = None
) -> Row:
    """Return how many times as much as the base something costs."""
    return _ratio_row(part, what, ours, base, f"{_median(ours):.0f} µs", ("≤", most))


def _ratio_row(
    part: str,
    what: str,
    above: Sequence[Cost],
    below: Sequence[Cost],
    absolute: str,
    aim: tuple[str, float | None],
    *,
    by_clock: bool = False,
) -> Row:
    cpu = [a.cpu / b.cpu for a, b in zip(above, below, strict=True)]
    wall = statistics.median(a.wall / b.wall for a, b in zip(above, below, strict=True))
    median = statistics.median(cpu)
    judged, unit = (wall, "× by the clock") if by_clock else (median, "×")
    return Row(
        part=part,
        what=what,
        measured=f"{_number(median)}× ({absolute})",
        spread=f"{_number(min(cpu))}–{_number(max(cpu))}",
        wall=f"{_number(wall)}×",
        value=median,
        **_aim(judged, *aim, unit),
    )


def _median(costs: Sequence[Cost]) -> float:
    return statistics.median(cost.cpu for cost in costs)


def value_row(
    part: str,
    what: str,
    values: Sequence[float],
    unit: str,
    *,
    least: float | None = None,
    most: float | None = None,
) -> Row:
    """Return a figure with its unit."""
    median = statistics.median(values)
    sign, aim = ("≥", least) if least is not None else ("≤", most)
    spread = f"{_number(min(values))}–{_number(max(values))}" if len(values) > 1 else ""
    return Row(
        part=part,
        what=what,
        measured=f"{_number(median)} {unit}",
        spread=spread,
        value=median,
        **_aim(median, sign, aim, f" {unit}"),
    )


def _aim(value: float, sign: str, aim: float | None, unit: str) -> dict[str, object]:
    if aim is None:
        return {}
    is_reached = value >= aim if sign == "≥" else value <= aim
    return {"aim": f"{sign} {aim:,g}{unit}", "is_reached": is_reached}


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 3 else f"{value:.2f}"
