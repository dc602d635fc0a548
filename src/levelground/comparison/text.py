"""Words and figures for people: numbers, per cent, lists and plurals, one way everywhere.

Sentences of a comparison and cells of its tables go through here, so a score never reads ``0.47`` in one place and
``47 %`` in another. Scores are fractions with three decimals; shares in prose are per cent; a value that does not
exist is an en dash.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from levelground.metrics.named import METRICS
from levelground.runs import SelectionRecord
from levelground.wording import SOURCE, current_language, decimal, gettext, ngettext, npgettext, pgettext, whole

MISSING = "–"
"""What stands where there is no value."""

Parts = Mapping[str, str]
"""The named parts of a text, empty where it has none."""


def score(value: float | None, *, decimals: int = 3) -> str:
    """A score or loss as a fraction; a small value keeps its first figure rather than reading as nought.

    Example:
        >>> score(0.47441), score(None), score(-0.00042), score(0.0), score(-0.25)
        ('0.474', '–', '−0.0004', '0.000', '−0.250')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    size = abs(value)
    if 0 < size < 0.5 * 10**-decimals:
        decimals = min(8, -math.floor(math.log10(size)))
    digits = f"{size:.{decimals}f}"
    text = decimal(digits)
    return f"−{text}" if value < 0 and float(digits) > 0 else text


def signed(value: float | None) -> str:
    """A difference with its sign.

    Example:
        >>> signed(0.0039), signed(-0.02), signed(0.0), signed(None)
        ('+0.004', '−0.020', '0.000', '–')
    """
    text = score(value)
    return text if value is None or text == MISSING or value <= 0 else f"+{text}"


def between(bounds: Sequence[float] | None, *, sign: bool = False) -> str:
    """An interval in prose.

    Example:
        >>> between([0.44, 0.5]), between([-0.01, 0.02], sign=True), between(None)
        ('0.440 to 0.500', '−0.010 to +0.020', '–')
    """
    if bounds is None:
        return MISSING
    write = signed if sign else score
    return pgettext("range", "%(low)s to %(high)s", low=write(bounds[0]), high=write(bounds[1]))


def per_cent(share: float) -> str:
    """A share in prose: whole per cent from 1 % on, one figure below, never a false nought.

    Example:
        >>> per_cent(0.312), per_cent(0.0064), per_cent(0.00001), per_cent(0.0), per_cent(0.9999)
        ('31 %', '0.6 %', 'under 0.1 %', '0 %', 'over 99 %')
    """
    if 0 < share < 0.0005:
        return gettext("under %(share)s %%", share=decimal("0.1"))
    if 0.995 <= share < 1:
        return gettext("over %(share)s %%", share="99")
    decimals = 1 if 0 < share < 0.0095 else 0
    return gettext("%(share)s %%", share=decimal(f"{100 * share:.{decimals}f}"))


def whole_per_cent(share: float) -> str:
    """Format a share in a column of per cents: whole, never as a false 0 or 100.

    Example:
        >>> [whole_per_cent(share) for share in (0.0, 0.004, 0.34, 0.997, 1.0)]
        ['0', '<1', '34', '>99', '100']
    """
    if 0 < share < 0.005:
        return "<1"
    return ">99" if 0.995 < share < 1 else f"{100 * share:.0f}"


def p_number(p: float | None) -> str:
    """A p-value in a table.

    Example:
        >>> p_number(0.0312), p_number(0.0004), p_number(1e-7), p_number(0.9999), p_number(None)
        ('0.031', '0.0004', '< 0.0001', '1', '–')
    """
    if p is None or not math.isfinite(p):
        return MISSING
    if p < 0.0001:
        return f"< {decimal('0.0001')}"
    return "1" if p >= 0.9995 else decimal(f"{p:.4f}" if p < 0.001 else f"{p:.3f}")


def p_value(p: float | None) -> str:
    """A p-value of one test in prose.

    Example:
        >>> p_value(0.0312), p_value(1e-7), p_value(None)
        ('p = 0.031', 'p < 0.0001', 'no p-value')
    """
    if p is None or not math.isfinite(p):
        return gettext("no p-value")
    if p < 0.0001:
        return gettext("p < %(number)s", number=decimal("0.0001"))
    return gettext("p = %(number)s", number=p_number(p))


def holm_p_value(p: float | None) -> str:
    """A p-value in prose that Holm's method adjusted for all pairs tested together.

    Example:
        >>> holm_p_value(0.22), holm_p_value(1e-7), holm_p_value(None)
        ('Holm-adjusted p = 0.220', 'Holm-adjusted p < 0.0001', 'no p-value')
    """
    if p is None or not math.isfinite(p):
        return gettext("no p-value")
    if p < 0.0001:
        return gettext("Holm-adjusted p < %(number)s", number=decimal("0.0001"))
    return gettext("Holm-adjusted p = %(number)s", number=p_number(p))


def rate(value: float) -> str:
    """A rate with two figures, as far as they are decimals.

    Example:
        >>> rate(2.41), rate(14.2), rate(0.034), rate(3.0)
        ('2.4', '14', '0.034', '3')
    """
    return decimal(f"{value:.0f}" if value >= 9.95 else f"{value:.2g}")


def ratio(value: float) -> str:
    """How many times as large something is.

    Example:
        >>> ratio(2.41), ratio(14.2), ratio(3.0)
        ('2.4', '14', '3.0')
    """
    return decimal(f"{value:.1f}" if value < 9.95 else f"{value:.0f}")


def verdict_word(verdict: str) -> str:
    """A verdict in a table, about the first of two.

    Example:
        >>> verdict_word("better"), verdict_word("undecided")
        ('better', 'undecided')
    """
    words = {
        "better": gettext("better"),
        "worse": gettext("worse"),
        "equal": gettext("equal"),
        "undecided": gettext("undecided"),
    }
    return words[verdict]


def split_words(split: str) -> str:
    """The name of a split inside a message, as in "30 test scenes".

    Example:
        >>> split_words("test"), split_words("val")
        ('test', 'val')
    """
    words = {
        "train": pgettext("scenes of", "train"),
        "val": pgettext("scenes of", "val"),
        "test": pgettext("scenes of", "test"),
    }
    return words.get(split, split)


def recorded(text: str) -> str:
    """A text that a record holds in English (a budget, the rule of a split), in the current language.

    One of another kind stays as it is. Records hold budgets in the plural ("1 steps"): runs are known by that text.

    Example:
        >>> recorded("1 steps"), recorded("5 folds, every scene a test scene once; scenes in an order of mine")
        ('1 step', '5 folds, every scene a test scene once; scenes in an order of mine')
    """
    for pattern, write in _RECORDED.items():
        found = re.fullmatch(pattern, text)
        if found is not None and (write is _budget or current_language() != SOURCE):
            return write(found.groupdict(""))
    return text


def _budget(found: Parts) -> str:
    """Write a budget; a fraction takes the form that a language has for it."""
    n, unit = found["n"], found["unit"]
    form, values = int(n) if n.isdigit() else 2, {"n": decimal(n)}
    if unit == "step":
        return npgettext("budget", "%(n)s step", "%(n)s steps", form, **values)
    if unit == "epoch":
        return npgettext("budget", "%(n)s epoch", "%(n)s epochs", form, **values)
    return npgettext("budget", "%(n)s minute", "%(n)s minutes", form, **values)


def _blocks(found: Parts) -> str:
    return gettext(
        "blocks of %(side)s, buffer %(buffer)s", side=decimal(found["side"]), buffer=decimal(found["buffer"])
    )


def _drawn(found: Parts) -> str:
    return gettext(
        "%(what)s drawn at random, seed %(seed)s, by class shares", what=recorded(found["what"]), seed=found["seed"]
    )


def _folds(found: Parts) -> str:
    return ngettext(
        "%(n)s fold, every scene a test scene once; %(rest)s",
        "%(n)s folds, every scene a test scene once; %(rest)s",
        int(found["n"]),
        rest=recorded(found["rest"]),
    )


def _poor_validation(found: Parts) -> str:
    """Write why the weights of the last step were kept: few scenes, missing classes or both."""
    scenes, groups, missing = found["scenes"], found["groups"], found["missing"]
    texts = []
    if scenes and groups:
        texts.append(gettext("validation scenes: %(scenes)s, groups: %(groups)s", scenes=scenes, groups=groups))
    elif scenes:
        texts.append(gettext("validation scenes: %(scenes)s", scenes=scenes))
    if missing:
        names = found["names"] or MISSING
        classes = {"missing": missing, "asked": found["asked"], "names": names}
        texts.append(gettext("classes missing there: %(missing)s of %(asked)s (%(names)s)", **classes))
    return "; ".join(texts)


_RECORDED: dict[str, Callable[[Parts], str]] = {
    r"(?P<n>\d+|\d*\.\d+) (?P<unit>step|epoch|minute)s": _budget,
    r"none": lambda _: pgettext("weights", "none"),
    r"scenes": lambda _: pgettext("a split", "scenes"),
    r"groups of scenes": lambda _: pgettext("a split", "groups of scenes"),
    r"blocks of (?P<side>[\d.]+ \w+), buffer (?P<buffer>[\d.]+ \w+)": _blocks,
    r"(?P<what>.+) drawn at random, seed (?P<seed>\d+), by class shares": _drawn,
    r"(?P<n>\d+) folds, every scene a test scene once; (?P<rest>.*)": _folds,
    r"the data's own folders": lambda _: pgettext("a split", "the data's own folders"),
    r"the origin study's split": lambda _: pgettext("a split", "the origin study's split"),
    r"lists in (?P<folder>.+)": lambda found: pgettext("a split", "lists in %(folder)s", folder=found["folder"]),
    r"validation has no pixel of a class that is scored": lambda _: gettext(
        "validation has no pixel of a class that is scored"
    ),
    r"validation (?:has (?P<scenes>\d+) scenes?(?: in (?P<groups>\d+) groups?)?)?(?: and )?"
    r"(?:lacks (?P<missing>\d+) of (?P<asked>\d+) classes(?: \((?P<names>.*)\))?)?": _poor_validation,
}
"""What writes each kind of text; the English ones are made by ``Budget.describe``, the splits and ``choose_rule``."""


def count_of(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    Example:
        >>> count_of(1, "group"), count_of(2, "class", "classes"), count_of(0, "seed"), count_of(12345, "scene")
        ('1 group', '2 classes', '0 seeds', '12 345 scenes')
    """
    noun = one if n == 1 else (many or f"{one}s")
    return f"{whole(n)} {noun}"


def rounded_up(n: int) -> int:
    """A number from 20 on rounded up to two figures: a plan is no finer than that.

    Example:
        >>> rounded_up(1754), rounded_up(81), rounded_up(7)
        (1800, 81, 7)
    """
    if n < 20:
        return n
    unit = 10 ** (len(str(n)) - 2)
    return int(-(-n // unit) * unit)


def about(n: int) -> str:
    """A number as a plan says it: from 20 on, rounded up to two figures.

    Example:
        >>> about(1754), about(81), about(7)
        ('about 1 800', 'about 81', '7')
    """
    return whole(n) if n < 20 else gettext("about %(number)s", number=whole(rounded_up(n)))


def listing(items: Sequence[str], *, most: int = 6, last: Literal["and", "or"] = "and") -> str:
    """Items in a sentence; a long list is cut and says how many are left.

    Example:
        >>> listing(["a"]), listing(["a", "b"], last="or"), listing(["a", "b", "c"]), listing([])
        ('a', 'a or b', 'a, b and c', '')
        >>> listing(["a", "b", "c", "d"], most=2)
        'a, b and 2 more'
    """
    shown = list(items)
    if len(shown) > most:
        left = len(shown) - most
        shown, last = [*shown[:most], ngettext("%(n)s more", "%(n)s more", left)], "and"
    if len(shown) <= 1:
        return "".join(shown)
    first = ", ".join(shown[:-1])
    if last == "or":
        return pgettext("list", "%(first)s or %(last)s", first=first, last=shown[-1])
    return pgettext("list", "%(first)s and %(last)s", first=first, last=shown[-1])


def class_word(name: str) -> str:
    """A class's name inside a sentence: no capital unless it is an abbreviation.

    Example:
        >>> class_word("Agriculture land"), class_word("NIR-dark"), class_word("class 3")
        ('agriculture land', 'NIR-dark', 'class 3')
    """
    return name[:1].lower() + name[1:] if name[1:2].islower() else name


PAPER_NAMES = {
    "deeplabv3": "DeepLabV3",
    "deeplabv3plus": "DeepLabV3+",
    "dpt": "DPT",
    "fpn": "FPN",
    "linknet": "LinkNet",
    "manet": "MA-Net",
    "pan": "PAN",
    "pspnet": "PSPNet",
    "segformer": "SegFormer",
    "unet": "U-Net",
    "unetplusplus": "U-Net++",
    "upernet": "UPerNet",
}
"""Architectures as papers write them."""


def paper_name(label: str) -> str:
    """Return the label of a run, architecture or pair with architectures as papers write them.

    Example:
        >>> paper_name("unet s0 − pan (origin)"), paper_name("unet-resnet18-s0")
        ('U-Net s0 − PAN (origin)', 'unet-resnet18-s0')
    """
    return " ".join(PAPER_NAMES.get(word, word) for word in label.split(" "))


def metric_words(metric: str, scorings: Sequence[str]) -> str:
    """A metric's name in prose; the scoring is named only where there are several.

    Example:
        >>> metric_words("official.miou", ["official"]), metric_words("kept.miou", ["official", "kept", "all"])
        ('mIoU', 'kept mIoU')
        >>> metric_words("official.iou:Water", ["official"]), metric_words("boundary.miou", ["official"])
        ('IoU of water', 'boundary IoU')
        >>> metric_words("loss", ["official"])
        'loss'
    """
    if metric == "loss":
        return gettext("loss")
    if "." not in metric:
        return metric
    scoring, _, rest = metric.partition(".")
    kind, _, name = rest.partition(":")
    words = gettext(METRICS[kind].words) if kind in METRICS else kind
    if scoring == "boundary":
        words = gettext("boundary IoU")
    if name:
        words = pgettext("metric", "%(metric)s of %(class_name)s", metric=words, class_name=class_word(name))
    if scoring in scorings and len(scorings) > 1:
        return pgettext("metric", "%(scoring)s %(metric)s", scoring=scoring, metric=words)
    return words


def weights_kept(selection: SelectionRecord) -> str:
    """Which weights of a run were kept, and why.

    Example:
        >>> weights_kept(SelectionRecord(rule="val_miou", step=216))
        'val_miou, step 216'
        >>> weights_kept(SelectionRecord(rule="last", step=120, averaged=24, reason="validation has 1 scene"))
        'last, step 120, mean of 24 steps, because validation has 1 scene'
    """
    if not selection.rule:
        return MISSING
    parts = [selection.rule]
    if selection.step is not None:
        parts.append(gettext("step %(n)s", n=whole(selection.step)))
    if selection.averaged:
        parts.append(ngettext("mean of %(n)s step", "mean of %(n)s steps", selection.averaged))
    if selection.reason:
        parts.append(gettext("because %(reason)s", reason=recorded(selection.reason)))
    return ", ".join(parts)
