"""Legends: the classes of a data set, which of them count, and the colours that name them in masks.

A legend is read from TOML (a user's file) or JSON (our records) by :meth:`Legend.from_json`; its errors name class and
key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from levelground.errors import ClassIndexError, LabelColourError, LegendError, ShapeError
from levelground.imagery.colours import (
    FAR,
    MAX_FAR,
    NO_MATCH,
    RGB,
    Table,
    distinct_colours,
    look_up,
    nearest_colours,
    pack_colours,
    share_far,
    threshold_code,
    threshold_codes,
    unpack_colours,
)
from levelground.records import sha256_json

T = TypeVar("T")

IGNORE: int = NO_MATCH
"""The label of pixels without data; they enter no loss and no count."""

MAX_CLASSES = 255
"""Class indices are 0–254: 255 is :data:`IGNORE`."""

LabelMap = NDArray[np.uint8]  # (H, W), class indices and IGNORE
Rule = Literal["exact", "threshold"]


@dataclass(frozen=True)
class LegendClass:
    """One class: its index in label maps, names, colour, whether it counts in official scores, values in index masks.

    Without ``values`` an index mask stores the index itself. ``also`` are further colours of the class in masks, where
    several classes were merged.
    """

    index: int
    name: str
    colour: RGB
    counted: bool = True
    name_ru: str | None = None
    values: tuple[int, ...] = ()
    also: tuple[RGB, ...] = ()


@dataclass(frozen=True)
class Legend:
    """The classes of a data set, in the order of their indices.

    ``rule`` says how mask colours are read: ``exact``, or ``threshold``, where each channel is binarised at 128 first.
    Pixels of ``ignored_colours``, and of the values ``nodata`` in index masks, become :data:`IGNORE`.

    Raises:
        LegendError: Indices are not 0…K−1, two colours are equal (under ``threshold``: after binarising), a name is
            empty or used twice, a colour is not a colour, no class counts, a stored value means two things, or some
            classes have stored values and others none.
    """

    name: str
    classes: tuple[LegendClass, ...]
    rule: Rule = "exact"
    ignored_colours: tuple[RGB, ...] = ()
    nodata: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_classes(self)
        _check_colours(self)
        _check_values(self)

    @property
    def n_classes(self) -> int:
        """The number of classes K, uncounted ones included."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The English names by index."""
        return tuple(entry.name for entry in self.classes)

    def in_language(self, code: str) -> "Legend":
        """Return the legend with its names in a language as names, and the English ones as ``name_ru``.

        Args:
            code: The language; only Russian has names of its own. Without one for each class, or with one twice, the
                legend stays as it is.
        """
        shown = [entry.name_ru for entry in self.classes]
        if code != "ru" or None in shown or len(set(shown)) < len(shown):
            return self
        classes = [replace(entry, name=entry.name_ru or "", name_ru=entry.name) for entry in self.classes]
        return replace(self, classes=tuple(classes))

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Mask of the classes that count in official scores, ``(K,)``."""
        return np.array([entry.counted for entry in self.classes], np.bool_)

    @property
    def colours(self) -> NDArray[np.uint8]:
        """The colours by index, ``(K, 3)``, red first."""
        return np.array([entry.colour for entry in self.classes], np.uint8)

    @cached_property
    def table(self) -> Table:
        """Every known colour with its label, ignored colours last."""
        known = tuple((colour, entry.index) for entry in self.classes for colour in (entry.colour, *entry.also))
        return known + tuple((colour, IGNORE) for colour in self.ignored_colours)

    @cached_property
    def stored(self) -> tuple[tuple[int, int], ...]:
        """Every value that an index mask may store with its label, those without data last."""
        known = tuple((value, entry.index) for entry in self.classes for value in entry.values or (entry.index,))
        return known + tuple((value, IGNORE) for value in self.nodata)

    def digest(self) -> str:
        """Hash indices, names, colours and counted classes with SHA-256: scores with equal hashes are comparable."""
        return sha256_json([[c.index, c.name, c.colour, c.counted] for c in self.classes])

    def to_json(self) -> dict[str, JsonValue]:
        """Return the legend as a JSON object, read back by :meth:`from_json`; colours as six hexadecimal digits."""
        content: dict[str, JsonValue] = {
            "name": self.name,
            "rule": self.rule,
            "ignored": [hex_colour(colour) for colour in self.ignored_colours],
            "class": [_class_to_json(entry) for entry in self.classes],
        }
        return content | {"nodata": list(self.nodata)} if self.nodata else content

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> "Legend":
        """Read a legend from a JSON or TOML object.

        Args:
            content: Keys ``name``, ``rule``, ``ignored``, ``nodata`` and ``class``, as in a legend file.
        Raises:
            LegendError: A key is unknown, missing or of the wrong type, or the legend contradicts itself.
        """
        _only_keys(content, {"name", "rule", "ignored", "nodata", "class"}, "the legend")
        entries = content.get("class")
        if not isinstance(entries, list) or not entries:
            raise LegendError("the legend has no [[class]] entries. Give one for each class, with index, name, colour.")
        classes = sorted((_class_from_json(entry) for entry in entries), key=lambda entry: entry.index)
        ignored = content.get("ignored", [])
        if not isinstance(ignored, list):
            raise LegendError(f'ignored is {ignored!r}, expected a list of colours such as ["000000"].')
        rule = content.get("rule", "exact")
        if rule != "exact" and rule != "threshold":
            raise LegendError(f'rule is {rule!r}, expected "exact" or "threshold".')
        name = _typed_field(content, "name", str, "the legend", default="legend")
        colours = tuple(_read_colour(value, "ignored") for value in ignored)
        return cls(name, tuple(classes), rule, colours, _read_values(content.get("nodata", []), "nodata"))


def hex_colour(colour: RGB) -> str:
    """Write a colour as six hexadecimal digits.

    Example:
        >>> hex_colour((132, 41, 246))
        '8429F6'
    """
    return "{:02X}{:02X}{:02X}".format(*colour)


def _only_keys(content: Mapping[str, object], known: set[str], where: str) -> None:
    """Refuse keys that no legend has."""
    for key in content:
        if key not in known:
            raise LegendError(f"{where} has the unknown key {key!r}, expected {', '.join(sorted(known))}.")


def _typed_field(content: Mapping[str, object], key: str, kind: type[T], where: str, default: T | None = None) -> T:
    """Return the value of a key, which must have the given type."""
    value = content.get(key, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise LegendError(f"{where}: {key} is {value!r}, expected {kind.__name__}.")
    return value


def _read_colour(value: object, where: str) -> RGB:
    """Read ``"8429F6"``, ``"#8429f6"`` or ``[132, 41, 246]``."""
    if isinstance(value, str):
        digits = value.removeprefix("#")
        if len(digits) == 6 and all(digit in "0123456789abcdefABCDEF" for digit in digits):
            return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    elif isinstance(value, list | tuple) and len(value) == 3 and all(type(part) is int for part in value):
        return value[0], value[1], value[2]
    raise LegendError(f'{where}: colour is {value!r}, expected "8429F6" or [132, 41, 246].')


def _read_values(value: object, where: str) -> tuple[int, ...]:
    """Read one stored value or a list of them."""
    values = value if isinstance(value, list | tuple) else [value]
    if not all(type(part) is int and abs(part) < 2**53 for part in values):
        raise LegendError(f"{where} is {value!r}, expected a whole number or a list of them, such as [11, 12].")
    return tuple(values)


def _class_to_json(entry: LegendClass) -> JsonValue:
    """Write one ``[[class]]`` entry; a Russian name and stored values only where there are some."""
    colour = hex_colour(entry.colour)
    content: dict[str, JsonValue] = {
        "index": entry.index,
        "name": entry.name,
        "colour": colour,
        "counted": entry.counted,
    }
    if entry.values:
        content["value"] = list(entry.values)
    if entry.also:
        content["also"] = [hex_colour(other) for other in entry.also]
    return content if entry.name_ru is None else content | {"name_ru": entry.name_ru}


def _class_from_json(entry: object) -> LegendClass:
    """Read one ``[[class]]`` entry."""
    if not isinstance(entry, Mapping):
        raise LegendError(f"a class is {entry!r}, expected index, name and colour.")
    where = f"class {entry['index']!r}" if "index" in entry else "a class without index"
    _only_keys(entry, {"index", "name", "colour", "counted", "name_ru", "value", "also"}, where)
    index = _typed_field(entry, "index", int, where)
    drawn = "value" in entry and "colour" not in entry and 0 <= index < MAX_CLASSES
    return LegendClass(
        index=index,
        name=_typed_field(entry, "name", str, where),
        colour=distinct_colours(index + 1)[index] if drawn else _read_colour(entry.get("colour"), where),
        counted=_typed_field(entry, "counted", bool, where, default=True),
        name_ru=_typed_field(entry, "name_ru", str, where) if "name_ru" in entry else None,
        values=_read_values(entry["value"], f"{where}: value") if "value" in entry else (),
        also=tuple(_read_colour(colour, f"{where}: also") for colour in _typed_field(entry, "also", list, where, [])),
    )


def _check_classes(legend: Legend) -> None:
    """Check indices and names, and that a class counts."""
    indices = [entry.index for entry in legend.classes]
    if not 1 <= len(indices) <= MAX_CLASSES:
        raise LegendError(f"legend {legend.name!r} has {len(indices)} classes, expected 1 to {MAX_CLASSES}.")
    for expected, index in enumerate(indices):
        if index != expected:
            raise LegendError(
                f"legend {legend.name!r} has class index {index} where {expected} was expected. "
                f"Number the classes 0 to {len(indices) - 1} without a gap or a double."
            )
    for text in (legend.name, *legend.names, *(entry.name_ru or "" for entry in legend.classes)):
        if not text.isprintable():
            raise LegendError(f"legend name {text!r} has a line break or another character that is not printed.")
    seen: set[str] = set()
    for name in legend.names:
        if not name.strip() or name in seen:
            raise LegendError(f"legend {legend.name!r} has the class name {name!r} twice or empty. Name each class.")
        seen.add(name)
    if not legend.counted.any():
        raise LegendError(f"legend {legend.name!r} counts no class. Set counted = true for those that are scored.")


def _check_colours(legend: Legend) -> None:
    """Check that every colour is one, and names one thing only."""
    seen: dict[RGB | int, str] = {}
    named = [(colour, entry.name) for entry in legend.classes for colour in (entry.colour, *entry.also)]
    for colour, name in named + [(colour, "ignored") for colour in legend.ignored_colours]:
        if len(colour) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in colour):
            raise LegendError(f"legend {legend.name!r}: colour of {name} is {colour}, expected three numbers 0 to 255.")
        key = threshold_code(colour) if legend.rule == "threshold" else colour
        if key in seen:
            same = "the same colour after binarising at 128" if legend.rule == "threshold" else f"colour {colour}"
            raise LegendError(f"legend {legend.name!r}: {seen[key]} and {name} have {same}. Give each its own.")
        seen[key] = name


def _check_values(legend: Legend) -> None:
    """Check that every stored value means one thing, and that all classes have some or none has."""
    bare = [entry.name for entry in legend.classes if not entry.values]
    if bare and len(bare) < legend.n_classes:
        raise LegendError(f"legend {legend.name!r}: {bare[0]} has no value and others have. Give each class its own.")
    seen: dict[int, int] = {}
    for value, label in legend.stored:
        if seen.setdefault(value, label) != label or (label != IGNORE and value in legend.nodata):
            raise LegendError(f"legend {legend.name!r}: the value {value} has two meanings. Name it once.")


def default_legend(n_classes: int) -> Legend:
    """Make a legend for index masks that come without one: ``class 0`` … , all counted, in unlike colours.

    Args:
        n_classes: Number of classes, 1–255.
    Raises:
        LegendError: ``n_classes`` is outside 1–255.

    Example:
        >>> default_legend(3).names
        ('class 0', 'class 1', 'class 2')
    """
    colours = distinct_colours(min(n_classes, MAX_CLASSES + 1))
    return Legend("default", tuple(LegendClass(i, f"class {i}", colour) for i, colour in enumerate(colours)))


def decode_colours(rgb: NDArray[np.uint8], legend: Legend, *, snap: int = 0, source: str) -> LabelMap:
    """Turn a colour mask into class indices.

    Args:
        rgb: The mask, ``(H, W, 3)``, red first.
        legend: Its colours and the rule to read them by.
        snap: A colour that is not a class becomes the nearest one where no channel differs by more than this.
        source: The file's name, for the error.
    Returns:
        ``(H, W)``; :data:`IGNORE` where the colour is one of ``legend.ignored_colours``.
    Raises:
        ShapeError: ``rgb`` is not ``(H, W, 3)`` of uint8.
        LabelColourError: A colour is not a class; the message counts its pixels and names the first.

    Example:
        >>> decode_colours(np.uint8([[[0, 255, 255], [250, 10, 240]]]), DEEPGLOBE, source="119_mask.png")
        array([[0, 2]], dtype=uint8)
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ShapeError(f"{source}: colours are {rgb.dtype} {rgb.shape}, expected uint8 (height, width, 3).")
    rgb = np.ascontiguousarray(rgb)
    if not rgb.size:
        return np.zeros(rgb.shape[:2], np.uint8)
    labels = look_up(rgb, legend.table, threshold=legend.rule == "threshold")
    rows, columns = np.nonzero(labels == NO_MATCH) if labels.max() == NO_MATCH else ((), ())
    if len(rows):
        _settle_unmatched(rgb, labels, np.asarray(rows), np.asarray(columns), legend, snap, source)
    return labels


def refuse_guesses(rgb: NDArray[np.uint8], legend: Legend, *, snap: int = 0, source: str) -> None:
    """Refuse a colour mask that a tolerant rule, threshold or snap, accepts although it holds something else.

    Args:
        rgb: The mask, ``(H, W, 3)``, red first.
        legend: Its colours and the rule to read them by.
        snap: As in :func:`decode_colours`.
        source: The file's name, for the error.
    Raises:
        LabelColourError: More than a tenth of its pixels are more than 32 levels from every colour.
    """
    if legend.rule == "exact" and snap <= FAR:
        return
    share, colour = share_far(rgb, legend.table)
    if share > MAX_FAR:
        raise LabelColourError(
            f"{source}: {share:.0%} of the pixels are more than {FAR} levels from every colour of {legend.name!r}, the "
            f"commonest {colour}, and would be guessed. Save the classes' own colours as PNG, or class indices."
        )


def count_impure(rgb: NDArray[np.uint8], legend: Legend) -> int:
    """Count the pixels of a mask whose colour is near or beyond a class colour but none exactly.

    Example:
        >>> count_impure(np.uint8([[[0, 255, 255], [250, 10, 240]]]), DEEPGLOBE)
        1
    """
    known = tuple((colour, 0) for colour, _ in legend.table)
    return int(np.count_nonzero(look_up(np.ascontiguousarray(rgb), known)))


def encode_colours(labels: LabelMap, legend: Legend) -> NDArray[np.uint8]:
    """Turn class indices into a colour mask, ``(H, W, 3)``.

    Args:
        labels: ``(H, W)``, indices of ``legend`` or :data:`IGNORE`.
        legend: Its colours; :data:`IGNORE` becomes the first ignored colour, or black where there is none.
    Raises:
        ClassIndexError: An index lies outside the legend.

    Example:
        >>> encode_colours(np.uint8([[3, 4]]), DEEPGLOBE).tolist()
        [[[0, 255, 0], [0, 0, 255]]]
    """
    known = np.zeros(256, np.bool_)
    known[: legend.n_classes] = known[IGNORE] = True
    if not known[labels].all():
        worst = int(labels[~known[labels]].max())
        raise ClassIndexError(f"label {worst} is not a class of {legend.name!r}, expected 0 to {legend.n_classes - 1}.")
    palette = np.zeros((256, 3), np.uint8)
    palette[: legend.n_classes] = legend.colours
    palette[IGNORE] = legend.ignored_colours[0] if legend.ignored_colours else (0, 0, 0)
    return palette[labels]


def _settle_unmatched(
    rgb: NDArray[np.uint8],
    labels: LabelMap,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    legend: Legend,
    snap: int,
    source: str,
) -> None:
    """Fill in snapped pixels; raise for colours that are neither ignored nor near a class."""
    packed = pack_colours(rgb[rows, columns][None])[0]
    found, first, inverse, sizes = np.unique(packed, return_index=True, return_inverse=True, return_counts=True)
    colours = unpack_colours(found)
    values, distances = nearest_colours(colours, legend.table)
    if legend.rule == "threshold":
        ignored = np.isin(threshold_codes(colours), [threshold_code(colour) for colour in legend.ignored_colours])
        values[ignored], distances[ignored] = IGNORE, 0
    foreign = np.flatnonzero(distances > snap)
    if foreign.size:
        worst = foreign[np.lexsort((first[foreign], -sizes[foreign]))[0]]
        colour, distance, at = tuple(colours[worst].tolist()), int(distances[worst]), int(first[worst])
        have = "pixel has" if sizes[worst] == 1 else "pixels have"
        more = f"; {foreign.size} such colours" if foreign.size > 1 else ""
        remedy = f"pass --snap-colours {max(8, distance)}" if distance <= 32 else "add it to the legend"
        raise LabelColourError(
            f"{source}: {sizes[worst]} {have} colour {colour}, which is not a class of {legend.name!r} (first at row "
            f"{rows[at]}, column {columns[at]}{more}). Fix the file or {remedy}."
        )
    labels[rows, columns] = values[inverse]


DEEPGLOBE = Legend(
    name="deepglobe",
    rule="threshold",
    classes=(
        LegendClass(0, "Urban land", (0, 255, 255), name_ru="Город/Поселение"),
        LegendClass(1, "Agriculture land", (255, 255, 0), name_ru="Пашня"),
        LegendClass(2, "Rangeland", (255, 0, 255), name_ru="Пастбище"),
        LegendClass(3, "Forest land", (0, 255, 0), name_ru="Лес"),
        LegendClass(4, "Water", (0, 0, 255), name_ru="Вода"),
        LegendClass(5, "Barren land", (255, 255, 255), name_ru="Бесплодная земля"),
        LegendClass(6, "Unknown", (0, 0, 0), counted=False, name_ru="Неизвестно"),
    ),
)
"""DeepGlobe Land Cover 2018 in the origin study's order; its masks may be impure, so the challenge's threshold rule."""
