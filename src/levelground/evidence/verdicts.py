"""From an interval and a p to one of four words."""

from dataclasses import dataclass
from typing import Literal

VerdictWord = Literal["equal", "better", "worse", "undecided"]

ALPHA = 0.05
"""The adjusted p at which a difference counts as shown."""


@dataclass(frozen=True)
class Verdict:
    """What may be said of a difference a − b.

    Attributes:
        word: ``equal``: smaller than δ either way. ``better`` / ``worse``: a scores higher / lower. Else ``undecided``.
        excludes_zero: Whether the interval leaves 0 out; with ``equal``: measurably different, by less than δ.
    """

    word: VerdictWord
    excludes_zero: bool


def decide(interval: tuple[float, float] | None, p_holm: float | None, *, delta: float) -> Verdict:
    """Say what holds of a difference, the first of: equal, better or worse, undecided.

    Args:
        interval: The 95 % interval of a − b, or ``None`` where there is none.
        p_holm: The adjusted p of the difference, or ``None`` where there is none.
        delta: Differences below this do not matter (``--delta``).
    Returns:
        The verdict.
    Example:
        >>> decide((0.002, 0.008), 0.01, delta=0.01)
        Verdict(word='equal', excludes_zero=True)
        >>> [decide(ends, 0.01, delta=0.01).word for ends in ((0.02, 0.08), (-0.08, -0.02), (-0.02, 0.08))]
        ['better', 'worse', 'undecided']
        >>> decide((0.02, 0.08), 0.2, delta=0.01).word
        'undecided'
    """
    if interval is None:
        return Verdict("undecided", False)
    low, high = interval
    excludes_zero = low > 0 or high < 0
    if -delta < low and high < delta:
        return Verdict("equal", excludes_zero)
    if excludes_zero and p_holm is not None and p_holm <= ALPHA:
        return Verdict("better" if low > 0 else "worse", True)
    return Verdict("undecided", excludes_zero)
