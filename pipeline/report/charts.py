"""Plots as inline SVG: crisp at any size, coloured by the page's own style sheet, so that both colour schemes work.

Three kinds: `dots` (values with whiskers on one scale), `lines` (curves) and `scatter` (points with names). A mark's
`role` (teacher, student, floor, …) is its CSS class. Every plot has a text alternative, and the page sets its figures
in a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from pipeline.base.figures import Figure

WIDTH = 480
CHAR_PX = 7.8
"""What a character of the 13 px label type takes in the widest of the usual fonts."""


@dataclass(frozen=True)
class Mark:
    """One value, with its whisker (low, high) where it has one."""

    role: str
    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, role: str, figure: Figure) -> Mark:
        """A figure with its interval as whisker."""
        span = figure.span
        return cls(role, figure.value, span.low if span else None, span.high if span else None)


@dataclass(frozen=True)
class Point:
    """One named point of a scatter."""

    role: str
    name: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Axis:
    """Maps values in low…high to pixels start…stop, linearly or by logarithm; start may be the larger."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round values within the axis: 1, 2 and 5 times a power of ten."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = [m * 10.0**d for d in decades for m in (1, 2, 5)]
            return [step for step in steps if self.low <= step <= self.high]
        step = nice_step((self.high - self.low) / 6)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(max(rough, 1e-12)))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def padded(values: Sequence[float], least: float = 0.1) -> tuple[float, float]:
    """A range that holds all values with some air, at least `least` wide."""
    low, high = min(values), max(values)
    air = max((high - low) * 0.08, (least - (high - low)) / 2, 0.0)
    return low - air, high + air


def dots(rows: Sequence[tuple[str, Sequence[Mark]]], label: str, axis_label: str, low: float, high: float) -> Markup:
    """A row a name, its marks on one scale from `low` to `high`, whiskers behind the dots."""
    left = min(190.0, 28 + CHAR_PX * max(len(name) for name, _ in rows))
    pitch = 12 * max(len(marks) for _, marks in rows) + 16
    height = pitch * len(rows) + 52
    x = Axis(low, high, left, WIDTH - 18)
    parts = [_grid_x(x, 8, height - 44), _axis_title((left + WIDTH - 18) / 2, height - 6, axis_label)]
    for i, (name, marks) in enumerate(rows):
        middle = 8 + pitch * (i + 0.5)
        parts.append(_text(left - 10, middle + 4.5, clipped(name, left), "end"))
        for j, mark in enumerate(marks):
            y = middle + 12 * (j - (len(marks) - 1) / 2)
            parts.append(_dot(mark, x(mark.value), y, x, vertical=False))
    return _svg(height, label, parts)


def lines(curves: Sequence[tuple[str, Sequence[tuple[float, float]]]], label: str, x_label: str) -> Markup:
    """Curves (role, points) from zero upwards, each thinned to what the eye can tell apart."""
    height, bottom, left = 270.0, 226.0, 52.0
    ys = [y for _, points in curves for _, y in points]
    xs = [x for _, points in curves for x, _ in points]
    x_axis = Axis(min(xs), max(max(xs), min(xs) + 1), left, WIDTH - 18)
    y_axis = Axis(min(0.0, *ys), max(ys) * 1.05 or 1.0, bottom, 12)
    parts = [_grid_y(y_axis, left, WIDTH - 18), _ticks_x(x_axis, bottom)]
    parts.append(_axis_title((left + WIDTH - 18) / 2, height - 6, x_label))
    for role, points in curves:
        stride = max(1, len(points) // 300)
        kept = [*points[::stride], points[-1]]
        path = " ".join(f"{x_axis(x):.1f},{y_axis(y):.1f}" for x, y in kept)
        parts.append(Markup('<polyline class="curve {}" points="{}"/>').format(role, path))
    return _svg(height, label, parts)


def scatter(
    points: Sequence[Point], label: str, x_label: str, y_label: str, front: Sequence[tuple[float, float]] = ()
) -> Markup:
    """Points, x logarithmic, with vertical whiskers and the names that are not empty; a line through the front."""
    height, bottom, left = 292.0, 242.0, 52.0
    xs = [point.x for point in points]
    heights = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
    x_axis = Axis(min(xs) / 2.2, max(xs) * 2.2, left, WIDTH - 18, log=True)
    y_axis = Axis(*padded(heights), bottom, 30)
    parts = [_grid_y(y_axis, left, WIDTH - 18), _ticks_x(x_axis, bottom)]
    parts.append(_axis_title((left + WIDTH - 18) / 2, height - 8, x_label))
    parts.append(_text(4, 16, y_label, "start", "axis"))
    if len(front) > 1:
        path = " ".join(f"{x_axis(x):.1f},{y_axis(y):.1f}" for x, y in front)
        parts.append(Markup('<polyline class="front" points="{}"/>').format(path))
    for point in points:
        x, y = x_axis(point.x), y_axis(point.y)
        mark = Mark(point.role, point.y, point.low, point.high)
        parts.append(_dot(mark, y, x, y_axis, vertical=True, radius=6))
        if not point.name:
            continue
        near_right = x > WIDTH * 0.62
        shift, anchor = (-12, "end") if near_right else (12, "start")
        parts.append(_text(x + shift, y + 4.5, point.name, anchor, f"name {point.role}"))
    return _svg(height, label, parts)


def clipped(name: str, room_px: float) -> str:
    """The name, its middle left out where it would not fit."""
    fits = max(6, int((room_px - 14) / CHAR_PX))
    return name if len(name) <= fits else f"{name[: fits // 2]}…{name[-(fits - fits // 2 - 1) :]}"


def _dot(mark: Mark, along: float, across: float, axis: Axis, *, vertical: bool, radius: float = 4.5) -> Markup:
    """A dot at `along` on its axis, its whisker behind it."""
    whisker = Markup("")
    if mark.low is not None and mark.high is not None:
        ends = axis(mark.low), axis(mark.high)
        x1, x2, y1, y2 = (across, across, *ends) if vertical else (*ends, across, across)
        whisker = Markup('<line class="whisker {}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
            mark.role, x1, x2, y1, y2
        )
    x, y = (across, along) if vertical else (along, across)
    circle = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(mark.role, x, y, radius)
    return whisker + circle


def _grid_x(axis: Axis, top: float, bottom: float) -> Markup:
    lines_ = [
        Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>').format(axis(t), top, bottom)
        for t in axis.ticks()
    ]
    return Markup("").join([*lines_, _ticks_x(axis, bottom)])


def _ticks_x(axis: Axis, bottom: float) -> Markup:
    return Markup("").join(_text(axis(t), bottom + 18, f"{t:.6g}", "middle", "tick") for t in axis.ticks())


def _grid_y(axis: Axis, left: float, right: float) -> Markup:
    parts = []
    for tick in axis.ticks():
        y = axis(tick)
        grid = Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(left, right, y, y)
        parts.append(grid + _text(left - 8, y + 4.5, f"{tick:.6g}", "end", "tick"))
    return Markup("").join(parts)


def _axis_title(x: float, y: float, text: str) -> Markup:
    return _text(x, y, text, "middle", "axis")


def _text(x: float, y: float, text: str, anchor: str, role: str = "label") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(role, x, y, anchor, text)


def _svg(height: float, label: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {:.0f}" role="img" aria-label="{}"><title>{}</title>').format(
        WIDTH, height, label, label
    )
    return head + Markup("").join(escape(part) for part in parts) + Markup("</svg>")
