"""The little SVG that the page's charts need: escaped elements, scales with round ticks, axes.

Charts are as wide as their place on the page: positions across are per cent, letters and strokes keep their size, so
the same chart reads at 360 px and at 1280 px. What goes beyond the edge (ticks, labels) lies in the padding that the
style sheet gives ``.plot``.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Value = str | float | None
"""An attribute's value; ``None`` leaves the attribute out."""


def element(name: str, *content: str | Markup, **attributes: Value) -> Markup:
    """Write one element; text and attributes are escaped, markup in ``content`` is taken as it is.

    Args:
        name: The element's name.
        content: Text or markup inside it.
        attributes: Its attributes; ``_`` in a name stands for ``-``, a last ``_`` is dropped.

    Example:
        >>> print(element("text", "a < b", x="5%", text_anchor="end", class_="tick"))
        <text x="5%" text-anchor="end" class="tick">a &lt; b</text>
    """
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    opening = f"<{name}{''.join(parts)}"
    if not content:
        return Markup(f"{opening}/>")  # noqa: S704  every part was escaped above
    return Markup(f"{opening}>{''.join(escape(part) for part in content)}</{name}>")  # noqa: S704


def joined(parts: Sequence[Markup]) -> Markup:
    """Put elements one after the other."""
    return Markup("").join(parts)


@dataclass(frozen=True)
class Scale:
    """A linear scale from ``low`` to ``high``; ``low < high``."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Where a value lies, 0 at ``low`` and 1 at ``high``; never beyond the edge."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def at(self, value: float) -> str:
        """Where a value lies, in per cent, across.

        Example:
            >>> Scale(0, 2).at(0.5)
            '25%'
        """
        return percent(self.share(value))

    def above(self, value: float) -> str:
        """Where a value lies, in per cent from the top."""
        return percent(1 - self.share(value))

    def ticks(self, n: int = 5) -> list[float]:
        """About ``n`` round values inside the scale.

        Example:
            >>> Scale(0.28, 0.61).ticks(4)
            [0.3, 0.4, 0.5, 0.6]
        """
        step = round_step((self.high - self.low) / max(1, n))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def scale_over(
    values: Sequence[float],
    *,
    margin: float = 0.06,
    least: float = 0.02,
    zero: bool = False,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Scale:
    """A scale that holds all values with some room.

    Args:
        values: What it must hold; none gives 0 to 1.
        margin: Room at each end, as a share of the range.
        least: The least range, so that equal values do not blow up.
        zero: Whether 0 must lie on it.
        within: What the values can be at all; values beyond, such as the ends of a very wide interval, are cut there.

    Example:
        >>> scale_over([], margin=0)
        Scale(low=0.0, high=1.0)
        >>> scale_over([-2.5, 0.4], within=(0, 1)).at(0.0)
        '5.36%'
    """
    held = [min(max(value, within[0]), within[1]) for value in values if math.isfinite(value)]
    if zero and held:
        held.append(0.0)
    if not held:
        return Scale(0.0, 1.0)
    low, high = min(held), max(held)
    room = max((high - low) * margin, (least - (high - low)) / 2, 1e-9)
    return Scale(low - (0 if zero and low == 0 else room), high + (0 if zero and high == 0 else room))


def round_step(step: float) -> float:
    """The next 1, 2 or 5 times a power of ten at or above a step.

    Example:
        >>> round_step(0.083), round_step(3)
        (0.1, 5.0)
    """
    size = 10.0 ** math.floor(math.log10(step))
    return next(size * part for part in (1.0, 2.0, 5.0, 10.0) if size * part >= step * (1 - 1e-9))


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """A tick's text with as many decimals as the step needs and no more.

    Example:
        >>> tick_text(0.5, [0.4, 0.45, 0.5]), tick_text(20000.0, [0, 20000.0]), tick_text(-1.0, [-1.0, 0.0])
        ('0.50', '20 000', '−1')
    """
    step = min((abs(b - a) for a, b in itertools.pairwise(ticks)), default=abs(value) or 1.0)
    decimals = next((n for n in range(10) if abs(round(step, n) - step) < 1e-9 * max(1.0, step)), 10)
    return f"{value:,.{decimals}f}".replace(",", " ").replace("-", "−")


def percent(share: float) -> str:
    """A share as SVG's per cent, with two decimals at most."""
    return f"{round(100 * share, 2):g}%"


def marker(x: str, y: str, shape: str, class_: str, title: str | None = None) -> Markup:
    """A small shape around a point given in per cent.

    Args:
        x: Across.
        y: Down.
        shape: A path around (0, 0).
        class_: Its classes.
        title: What a pointer that rests on it shows.
    """
    path = element("path", *([element("title", title)] if title else []), d=shape, class_=class_)
    return element("svg", path, x=x, y=y, overflow="visible")


def _plain(value: Value) -> str:
    """A number without needless digits."""
    return f"{value:g}" if isinstance(value, float) else str(value)
