"""Map stored values to labels and the classes of one legend to those of another; number classes without a legend."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ConfigError, LegendError, SceneError
from levelground.imagery.colours import RGB, Table, distinct_colours
from levelground.imagery.geotiff import Pixels, Window
from levelground.imagery.image_headers import ImageHeader
from levelground.imagery.image_pixels import read_colours, read_indices
from levelground.imagery.legend import IGNORE, MAX_CLASSES, LabelMap, Legend, LegendClass, default_legend

_SPARSE, _SPARSE_TOP = 4, 16
"""Values are names, not numbers of classes, where the largest is this many times their number, and at least this."""

_STRIP_PIXELS = 1 << 24


def numbered_legend(values: Collection[int]) -> Legend:
    """Make a legend for index masks that come without one, from the values that occur in all of them.

    Args:
        values: The values, without the files' own nodata values.
    Returns:
        Values 0 and 255 alone are the two classes of a black and white mask. Far-flung values, such as WorldCover's
        10, 20 … 100, are a class each. Otherwise classes are numbered from 0 to the largest value, and 255 is no data.
    Raises:
        LegendError: There are more than 255 classes.

    Example:
        >>> numbered_legend({0, 255}).stored, numbered_legend({10, 30, 255}).names
        (((0, 0), (255, 1)), ('value 10', 'value 30'))
    """
    if set(values) == {0, IGNORE}:
        black = LegendClass(0, "class 0", (0, 0, 0), values=(0,))
        return Legend("binary", (black, LegendClass(1, "class 1", (255, 255, 255), values=(IGNORE,))))
    kept = sorted(set(values) - {IGNORE})
    top = max(kept, default=0)
    if top < max(_SPARSE_TOP, _SPARSE * len(kept)):
        return default_legend(max(1, top) + 1)  # a legend of one class leaves nothing to tell apart
    if len(kept) > MAX_CLASSES:
        raise LegendError(f"masks hold {len(kept)} values, expected at most {MAX_CLASSES} classes. Reclassify them.")
    colours = distinct_colours(len(kept))
    classes = (LegendClass(i, f"value {v}", colours[i], values=(v,)) for i, v in enumerate(kept))
    return Legend("values", tuple(classes))


def find_class(word: str, legend: Legend) -> int | None:
    """Find a class by its English or Russian name, case and spaces aside; ``None`` where no class is called so.

    Example:
        >>> from levelground.imagery.legend import DEEPGLOBE
        >>> find_class("forest  LAND", DEEPGLOBE)
        3
    """
    asked = " ".join(word.casefold().split())
    for entry in legend.classes:
        if asked in {" ".join(name.casefold().split()) for name in (entry.name, entry.name_ru) if name}:
            return entry.index
    return None


def parse_class_map(pairs: Sequence[str], source: Legend, target: Legend) -> dict[int, int]:
    """Read a class map, ``THEIRS=OURS`` each, where both sides are names or indices of classes.

    Args:
        pairs: The pairs; several classes of ``source`` may become one of ``target``.
        source: The legend of the left sides.
        target: The legend of the right sides.
    Returns:
        The index in ``target`` of each class of ``source`` that is named.
    Raises:
        ConfigError: A pair has no ``=``, names no class, or gives one class a second meaning.

    Example:
        >>> from levelground.imagery.legend import DEEPGLOBE
        >>> parse_class_map(["class 1=Water", "2=Forest land"], default_legend(3), DEEPGLOBE)
        {1: 4, 2: 3}
    """
    found: dict[int, int] = {}
    for pair in pairs:
        left, equals, right = pair.partition("=")
        if not equals:
            raise ConfigError(
                f'--class-map {pair!r}: expected THEIRS=OURS, such as "{source.names[0]}={target.names[0]}".'
            )
        theirs, ours = _class_index(left, source, pair), _class_index(right, target, pair)
        if found.setdefault(theirs, ours) != ours:
            raise ConfigError(f"--class-map {pair!r}: {source.names[theirs]} has another meaning before. Give it once.")
    return found


def _class_index(word: str, legend: Legend, pair: str) -> int:
    """Return the index of the class that one side of a pair names, or of which it is the beginning alone."""
    by_name, text = find_class(word, legend), word.strip()
    if by_name is not None:
        return by_name
    if text.isascii() and text.isdigit() and int(text) < legend.n_classes:
        return int(text)
    beginning = [i for i, name in enumerate(legend.names) if text and name.casefold().startswith(text.casefold())]
    if len(beginning) == 1:
        return beginning[0]
    raise ConfigError(
        f"--class-map {pair!r}: {text!r} is not a class of {legend.name!r}. Its classes are {', '.join(legend.names)}."
    )


def labels_of_values(values: Pixels, legend: Legend, tag: float | None) -> tuple[LabelMap, NDArray[np.bool_], int]:
    """Turn the values of an index mask into labels.

    A value that the legend names means what it says there, even where the file calls it no data; then come the file's
    nodata value, values that are not numbers, and 255.

    Args:
        values: The stored values, ``(H, W)``.
        legend: The classes.
        tag: The file's nodata value, if it has one.
    Returns:
        Labels; where a value is none of these, ``(H, W)``; and how many pixels hold a 255 that nothing declares.
    """
    explicit = bool(legend.classes[0].values)
    table = {value: label for value, label in legend.stored if explicit or value != tag or label == IGNORE}
    undeclared = IGNORE not in table and tag != IGNORE
    table.setdefault(IGNORE, IGNORE)
    if values.dtype == np.uint8:
        return _look_up_bytes(np.asarray(values, np.uint8), table, tag, undeclared=undeclared)
    missing = np.zeros(values.shape, np.bool_) if tag is None else np.asarray(values == tag)
    if values.dtype.kind == "f":
        missing |= np.isnan(values.astype(np.float64, copy=False))
    exact = values.astype(np.float64 if values.dtype.kind == "f" else np.int64, copy=False)
    keys = np.array(sorted(table))
    at = np.minimum(np.searchsorted(keys, exact), len(keys) - 1)
    known = keys[at] == exact
    labels = np.array([table[int(key)] for key in keys], np.uint8)[at]
    labels[~known] = IGNORE
    return labels, ~known & ~missing, int((exact == IGNORE).sum()) if undeclared else 0


def _look_up_bytes(
    values: NDArray[np.uint8], table: dict[int, int], tag: float | None, *, undeclared: bool
) -> tuple[LabelMap, NDArray[np.bool_], int]:
    """Turn bytes into labels by one table of 256."""
    lut, known = np.full(256, IGNORE, np.uint8), np.zeros(256, np.bool_)
    for value, label in table.items():
        if 0 <= value <= 255:
            lut[value], known[value] = label, True
    if tag is not None and tag in range(256):
        known[int(tag)] = True
    occurs = np.bincount(values.ravel(), minlength=256)
    wrong = ~known[values] if occurs[~known].any() else np.zeros(values.shape, np.bool_)
    return lut[values], wrong, int(occurs[IGNORE]) if undeclared else 0


@dataclass(frozen=True)
class ClassMap:
    """Meaning of the classes of other tools' predictions in a legend; several may mean one class.

    Attributes:
        numbers: Class by number: a value of an index mask, or a channel of probabilities.
        colours: Class by colour.
        classes: Class that a class of the legend becomes, once numbers and colours are read.
    """

    numbers: Mapping[int, int] = field(default_factory=dict)
    colours: Mapping[RGB, int] = field(default_factory=dict)
    classes: Mapping[int, int] = field(default_factory=dict)

    def renumbers(self, n_classes: int) -> bool:
        """Tell whether a number of the legend has another meaning, so that every number has to be named."""
        return any(0 <= number < n_classes for number in self.numbers)

    def of_numbers(self, n_classes: int) -> dict[int, int]:
        """Return the class of each number that has one; a class's own number stands for it where none is renumbered."""
        own = {} if self.renumbers(n_classes) else {index: index for index in range(n_classes)}
        return {number: self.classes.get(index, index) for number, index in (own | dict(self.numbers)).items()}

    def table(self, legend: Legend) -> Table:
        """Return the colours of a legend and those that are mapped, with their labels."""
        return tuple((dict(legend.table) | dict(self.colours)).items())


def read_class_map(texts: Sequence[str], legend: Legend) -> ClassMap:
    """Read pairs such as ``1=Water``, ``3+4=Forest land``, ``#00FF00=3`` or ``Rangeland=Barren land``.

    Args:
        texts: What other masks hold, number, colour or name of a class of the legend, and the class that it means.
        legend: The classes, given by name, by the unique beginning of one, or by index.
    Raises:
        ConfigError: A pair has another form, its class is unknown, or a number, colour or name has two.

    Example:
        >>> read_class_map(["3+4=class 1", "#FF0000=0"], default_legend(2)).numbers
        {3: 1, 4: 1}
    """
    numbers: dict[int, int] = {}
    colours: dict[RGB, int] = {}
    classes: dict[int, int] = {}
    for text in texts:
        sources, equals, target = text.rpartition("=")
        if not equals or not sources.strip() or not target.strip():
            raise ConfigError(f"--class-map {text!r}: expected FROM=CLASS, such as 1=Water, 3+4=0 or '#00FF00=2'.")
        index = _class_index(target, legend, text)
        whole = [sources] if sources.strip().casefold() in {name.casefold() for name in legend.names} else []
        for source in (part.strip() for part in whole or sources.split("+")):
            if re.fullmatch(r"#[0-9A-Fa-f]{6}", source):
                red, green, blue = bytes.fromhex(source[1:])
                given = colours.setdefault((red, green, blue), index)
            elif re.fullmatch(r"-?\d+", source):
                given = numbers.setdefault(int(source), index)
            else:
                given = classes.setdefault(_class_index(source, legend, text), index)
            if given != index:
                raise ConfigError(f"--class-map {text!r}: {source} is given two classes. Give it one.")
    return ClassMap(numbers, colours, classes)


def grey_colours(masks: Mapping[Path, ImageHeader], legend: Legend) -> bool:
    """Tell whether grey masks hold 255 and otherwise only grey levels that are colours of a legend, over all masks."""
    levels = {colour[0] for colour, _ in legend.table if len({*colour}) == 1}
    if len(levels) < 2 or IGNORE not in levels or any(header.dtype != "uint8" for header in masks.values()):
        return False
    found: set[int] = set()
    for path, header in masks.items():
        for window in _strips(header):
            try:
                found |= set(np.unique(read_colours(path, window)).tolist())
            except SceneError:  # told when the mask is decoded
                break
            if not found <= levels:
                return False
    return IGNORE in found


def occurring_values(path: Path, header: ImageHeader) -> set[int]:
    """Find the values that occur in an index mask, except its own nodata value.

    Raises:
        SceneError: A value is not a whole number from 0 on, or there are more values than there can be classes.
    """
    found: set[int] = set()
    for window in _strips(header):
        values = read_indices(path, window)
        values = np.unique(values[(values != header.nodata) & np.isfinite(values)])
        if not values.size:
            continue
        low, high = float(values.min()), float(values.max())
        found |= {int(value) for value in values[: MAX_CLASSES + 2]}
        if low < 0 and (values % 1 == 0).all() and len(values) <= MAX_CLASSES:
            below = ", ".join(str(int(value)) for value in values.tolist() if value < 0)
            raise SceneError(
                f"{path}: mask holds the values {low:g} to {high:g}, expected class indices from 0. If {below} is no "
                f"data, write legend.toml with nodata = [{below}] and a [[class]] for each value: index, name, value."
            )
        if low < 0 or (values.dtype.kind == "f" and (values % 1).any()) or len(found - {IGNORE}) > MAX_CLASSES:
            raise SceneError(
                f"{path}: mask holds the values {low:g} to {high:g}, expected class indices 0 to {MAX_CLASSES - 1}, or "
                f"{IGNORE} for no data. Number the classes from 0, or give a legend that names their values."
            )
    return found


def _strips(header: ImageHeader) -> Iterator[Window | None]:
    """Yield windows that keep memory flat; only TIFF is read in parts, other files whole (``None``)."""
    if header.format != "tiff":
        yield None
        return
    rows = max(1, _STRIP_PIXELS // header.width)
    for row in range(0, header.height, rows):
        yield row, 0, min(rows, header.height - row), header.width
