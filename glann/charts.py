"""Line charts as a few hundred bytes of SVG path each, for a page that gives them colour, size and text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SIDE = 1000  # both sides of the drawing in units of its own; the page stretches it
_BUCKETS = 150  # two points each are kept of a longer curve: more than a screen shows
_BINS = 40  # of a histogram
_LOG_RATIO = 10  # of the largest to the smallest value, from which a logarithmic axis shows more

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float  # per cent of the axis, from the left or from below
    text: str


@dataclass(frozen=True)
class Line:
    """One curve."""

    label: str
    path: str  # of SVG, in a square of `SIDE`
    last: str  # its value at the end


@dataclass(frozen=True)
class Chart:
    """Curves over the epochs, or over what is counted, with their axes."""

    title: str
    note: str
    lines: list[Line]
    x: list[Tick]
    y: list[Tick]
    spoken: str  # for who cannot see it
    unit: str = "epoch"  # of the horizontal axis


def chart(
    title: str, note: str, series: Mapping[str, Sequence[Point]], *, percent: bool = False, linear: bool = False
) -> Chart | None:
    """Lay out a chart.

    Args:
        title: what is shown.
        note: what it means, in a sentence without a full stop.
        series: label -> (epoch, value) pairs, finite, in the order of the epochs; empty ones are left out.
        percent: whether the values are shares from 0 to 1.
        linear: whether the axis is linear in any case.

    Returns:
        The chart, or None where no series has a point.
    """
    drawn = {label: thin(points) for label, points in series.items() if points}
    if not drawn:
        return None
    epochs = [epoch for points in drawn.values() for epoch, _ in points]
    values = [value for points in drawn.values() for _, value in points]
    first, last = min(epochs), max(epochs)
    low, high = min(values), max(values)
    logarithmic = not (percent or linear) and low > 0 and high / low > _LOG_RATIO
    if logarithmic:
        bottom, top = math.log10(low) - 0.05, math.log10(high) + 0.05
        marks = log_ticks(low, high)
        note = f"{note} (logarithmic axis)".strip()
    else:
        # From zero, so that the height of a curve can be trusted; a little room above it.
        bottom, top = (0.0, 1.0) if percent else (min(low, 0.0), max(high, 0.0) * 1.05)
        marks = linear_ticks(bottom, top, 5)

    def across(epoch: float) -> float:
        return (epoch - first) / (last - first) if last > first else 0.5

    def up(value: float) -> float:
        value = math.log10(value) if logarithmic else value
        return (value - bottom) / (top - bottom) if top > bottom else 0.5

    def text(value: float) -> str:
        return f"{value:.0%}" if percent else figure(value)

    def path(points: Sequence[Point]) -> str:
        dots = [f"{across(x) * SIDE:.0f} {(1 - up(y)) * SIDE:.0f}" for x, y in points]
        return "M" + "L".join(dots) + ("h0" if len(dots) == 1 else "")  # a line of no length shows as a dot

    ends = [f"{label} from {text(points[0][1])} to {text(points[-1][1])}" for label, points in drawn.items()]
    return Chart(
        title=title,
        note=note,
        lines=[Line(label, path(points), text(points[-1][1])) for label, points in drawn.items()],
        x=[Tick(100 * across(mark), figure(mark)) for mark in linear_ticks(first, last, 5, smallest=1.0)],
        y=[Tick(100 * up(mark), text(mark)) for mark in marks],
        spoken=f"{title}, epochs {first:.0f} to {last:.0f}: {', '.join(ends)}",
    )


def histogram(title: str, note: str, unit: str, samples: Mapping[str, Sequence[float]]) -> Chart | None:
    """Lay out how often values occur, each group as a curve over the middle of 40 equal bins.

    Args:
        title: what is shown.
        note: what it means, in a sentence without a full stop.
        unit: of the values.
        samples: label -> finite values; empty groups are left out.

    Returns:
        The chart, or None where no group has a value.
    """
    groups = {label: sorted(values) for label, values in samples.items() if values}
    if not groups:
        return None
    low, high = min(v[0] for v in groups.values()), max(v[-1] for v in groups.values())
    width = (high - low) / _BINS or 1.0
    shares = {}
    for label, values in groups.items():
        counts = [0] * _BINS
        for value in values:
            counts[min(int((value - low) / width), _BINS - 1)] += 1
        shares[label] = [count / len(values) for count in counts]
    top = 1.05 * max(map(max, shares.values()))

    def path(heights: Sequence[float]) -> str:
        dots = [(0.0, 0.0), *((k + 0.5, height) for k, height in enumerate(heights)), (float(_BINS), 0.0)]
        return "M" + "L".join(f"{x / _BINS * SIDE:.0f} {(1 - height / top) * SIDE:.0f}" for x, height in dots)

    medians = {label: figure(values[(len(values) - 1) // 2]) for label, values in groups.items()}
    return Chart(
        title=title,
        note=note,
        lines=[Line(label, path(heights), f"median {medians[label]}") for label, heights in shares.items()],
        x=[Tick(100 * (mark - low) / (width * _BINS), figure(mark)) for mark in linear_ticks(low, high, 5)],
        y=[Tick(100 * mark / top, f"{mark:.0%}") for mark in linear_ticks(0.0, top, 4, smallest=0.01)],
        spoken=f"{title}: {', '.join(f'{label}, median {median}' for label, median in medians.items())}",
        unit=unit,
    )


def thin(points: Sequence[Point]) -> list[Point]:
    """Keep the ends of a long curve and the lowest and the highest point of each stretch, so that no peak is lost."""
    if len(points) <= 2 * _BUCKETS:
        return list(points)
    kept = [points[0]]
    for k in range(_BUCKETS):
        stretch = points[k * len(points) // _BUCKETS : (k + 1) * len(points) // _BUCKETS]
        extremes = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
        kept += sorted(extremes - {points[0], points[-1]})
    return [*kept, points[-1]]


def linear_ticks(low: float, high: float, most: int, smallest: float = 0.0) -> list[float]:
    """At most ``most`` + 1 round numbers from low to high: multiples of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = max((high - low) / most, smallest)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [k * step for k in range(math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from low to high, with their double and fivefold where that leaves room."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low < 1000 else (1,)
    every = max(1, len(decades) // 6)
    marks = [factor * 10.0**decade for decade in decades[::every] for factor in factors]
    return [mark for mark in marks if low * 0.9 <= mark <= high * 1.1]


def figure(value: float) -> str:
    """A number for a person: three figures, no needless zeros, thousands with a comma."""
    if abs(value) >= 999.5:
        return f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.2e}"
    return f"{value:.3g}"
