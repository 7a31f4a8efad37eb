"""Charts as inline SVG: bars with intervals, a scatter plot, differences with intervals.

A chart is 340 units wide, a phone's width, so that its text is as large there as the page's. Colours
come from the page's style sheet by class, ``m0`` to ``m7`` for models, and so follow light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from m3e.evaluation.markup import Markup, join, tag

WIDTH = 340.0
COLOURS = 8
_LEFT, _RIGHT = 4.0, 296.0  # the rest is for figures
_BAR, _GAP, _HEAD = 11.0, 3.0, 19.0


@dataclass(frozen=True)
class Bar:
    """One model's value; ``colour`` is its number."""

    name: str
    value: float
    ends: tuple[float, float] | None
    colour: int


@dataclass(frozen=True)
class Point:
    """A model in a plane; both values are positive or, for ``y``, anything."""

    name: str
    x: float
    y: float
    colour: int


@dataclass(frozen=True)
class Gap:
    """A difference with its interval; ``clear`` where it is no chance."""

    name: str
    value: float
    ends: tuple[float, float]
    clear: bool


def bar_chart(title: str, groups: Sequence[tuple[str, Sequence[Bar]]]) -> Markup:
    """Horizontal bars in groups, one a task, with 95 % intervals as thin lines. The axis begins at 0 or below."""
    values: list[float] = [value for _, bars in groups for bar in bars for value in (bar.value, *(bar.ends or ()))]
    low, high = min(0.0, *values), max(1.0, *values)

    def x(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_RIGHT - _LEFT)

    parts: list[Markup] = []
    y = 2.0
    for label, bars in groups:
        parts.append(_text(label, _LEFT, y + 12, class_="head"))
        y += _HEAD
        top = y
        for bar in bars:
            parts.append(_bar(bar, x, y))
            y += _BAR + _GAP
        parts.append(tag("line", x1=x(0), y1=top - 1, x2=x(0), y2=y - _GAP + 1, class_="axis"))
        y += 6
    said = "; ".join(f"{label}: " + ", ".join(f"{bar.name} {bar.value:.3f}" for bar in bars) for label, bars in groups)
    return _svg(title, said, y, parts)


def _bar(bar: Bar, x: Callable[[float], float], y: float) -> Markup:
    start, end = sorted((x(0), x(bar.value)))
    middle = y + _BAR / 2
    return tag(
        "g",
        tag(
            "title", f"{bar.name}: {bar.value:.4f}" + (f" ({bar.ends[0]:.3f} to {bar.ends[1]:.3f})" if bar.ends else "")
        ),
        tag("rect", x=start, y=y, width=max(end - start, 1.0), height=_BAR, rx=1.5, class_=f"m{bar.colour % COLOURS}"),
        tag("line", x1=x(bar.ends[0]), y1=middle, x2=x(bar.ends[1]), y2=middle, class_="whisker") if bar.ends else None,
        _text(f"{bar.value:.3f}", WIDTH - 2, y + _BAR - 1, class_="figure", text_anchor="end"),
    )


def scatter_chart(title: str, x_name: str, y_name: str, points: Sequence[Point]) -> Markup:
    """Points with their names; ``x`` grows by powers of ten."""
    left, right, top, bottom = 40.0, 328.0, 14.0, 206.0
    logs = [math.log10(point.x) for point in points]
    first, last = math.floor(min(logs)), max(math.ceil(max(logs)), math.floor(min(logs)) + 1)
    values = [point.y for point in points]
    step = _step(max(values) - min(values))
    low = math.floor(min(values) / step) * step
    high = max(math.ceil(max(values) / step) * step, low + step)

    def x(value: float) -> float:
        return left + (math.log10(value) - first) / float(last - first) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    parts = []
    for power in range(first, last + 1):
        place = x(math.pow(10, power))
        parts.append(tag("line", x1=place, y1=top, x2=place, y2=bottom, class_="grid"))
        # the last one would be cut off in the middle
        anchor = "end" if power == last else "middle"
        parts.append(_text(f"{math.pow(10, power):,g}", place, bottom + 15, text_anchor=anchor))
    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        parts.append(tag("line", x1=left, y1=y(value), x2=right, y2=y(value), class_="grid"))
        parts.append(_text(f"{value:.2f}", left - 5, y(value) + 4, text_anchor="end"))
    parts.append(_text(f"{x_name} →", right, bottom + 33, text_anchor="end"))
    taken: list[float] = []
    for point in sorted(points, key=lambda point: y(point.y)):
        height = y(point.y) + 4
        while any(abs(height - other) < 13 for other in taken):
            height += 1
        taken.append(height)
        mirrored = x(point.x) > (left + right) / 2
        parts.append(
            tag(
                "g",
                tag("title", f"{point.name}: {point.x:,.0f} {x_name}, {y_name} {point.y:.4f}"),
                tag("circle", cx=x(point.x), cy=y(point.y), r=5.5, class_=f"m{point.colour % COLOURS}"),
                _text(
                    point.name,
                    x(point.x) + (-9 if mirrored else 9),
                    height,
                    text_anchor="end" if mirrored else "start",
                    class_="head",
                ),
            )
        )
    said = "; ".join(f"{point.name}: {point.x:,.0f} {x_name}, {y_name} {point.y:.3f}" for point in points)
    return _svg(title, said, max(bottom + 40, max(taken) + 6), parts)


def difference_chart(title: str, gaps: Sequence[Gap], colours: tuple[int, int] = (1, 2)) -> Markup:
    """Differences in points with 95 % intervals, around a line at 0.

    Args:
        colours: of the model that is better below 0, and of that above; what is not clear is grey.
    """
    below, above = (number % COLOURS for number in colours)
    ends = [end for gap in gaps for end in gap.ends]
    far = max(0.01, *map(abs, ends)) * 1.05

    def x(value: float) -> float:
        return _LEFT + (value + far) / (2 * far) * (_RIGHT - _LEFT)

    parts: list[Markup] = []
    y = 2.0
    for gap in gaps:
        kind = f"clear m{above if gap.value > 0 else below}" if gap.clear else "unclear"
        parts.append(_text(gap.name, _LEFT, y + 12, class_="head"))
        middle = y + _HEAD + 5
        parts.append(tag("line", x1=x(0), y1=middle - 8, x2=x(0), y2=middle + 8, class_="axis"))
        parts.append(
            tag(
                "g",
                tag("title", f"{gap.name}: {gap.value * 100:+.2f} points"),
                tag("line", x1=x(gap.ends[0]), y1=middle, x2=x(gap.ends[1]), y2=middle, class_=f"span {kind}"),
                tag("circle", cx=x(gap.value), cy=middle, r=4.5, class_=kind),
                _text(signed_points(gap.value), WIDTH - 2, middle + 4, class_="figure", text_anchor="end"),
            )
        )
        y += _HEAD + 18
    said = "; ".join(f"{gap.name}: {gap.value * 100:+.1f} points" for gap in gaps)
    return _svg(title, said, y, parts)


def signed_points(value: float) -> str:
    """A difference in points (hundredths) with its sign."""
    return f"{value * 100:+.1f}".replace("-", "−")


def _step(span: float) -> float:
    """A round step that divides a span into about four."""
    return next((step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if span / step <= 4), 1.0)


def _text(text: str, x: float, y: float, **attributes: str) -> Markup:
    return tag("text", text, x=x, y=y, **attributes)


def _svg(title: str, said: str, height: float, parts: Sequence[Markup]) -> Markup:
    return tag(
        "svg",
        tag("title", title),
        join(*parts),
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        aria_label=f"{title}. {said}",
        class_="chart",
    )
