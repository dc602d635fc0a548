"""Classes named by a person, by name, number or colour, and maps from other classes to those of a legend."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from levelground.errors import ConfigError, SceneError
from levelground.imagery.colours import RGB, Table
from levelground.imagery.legend import Legend
from levelground.reading import is_whole_number


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


def find_class_beginning(word: str, legend: Legend) -> int | None:
    """Find a class by its name, or by the beginning of its name where no other class begins so.

    Example:
        >>> from levelground.imagery.legend import DEEPGLOBE
        >>> find_class_beginning("forest", DEEPGLOBE)
        3
    """
    by_name, asked = find_class(word, legend), word.strip().casefold()
    if by_name is not None:
        return by_name
    beginning = [i for i, name in enumerate(legend.names) if asked and name.casefold().startswith(asked)]
    return beginning[0] if len(beginning) == 1 else None


@dataclass(frozen=True)
class ClassMap:
    """Meaning of other classes in a legend; several may mean one class.

    Attributes:
        numbers: Class by number: a value of an index mask, or a channel of probabilities.
        colours: Class by colour.
        classes: Class that a class means, once numbers and colours are read.
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


def read_class_map(texts: Sequence[str], legend: Legend, source: Legend | None = None) -> ClassMap:
    """Read pairs such as ``1=Water``, ``3+4=Forest land``, ``#00FF00=3`` or ``Rangeland=Barren land``.

    Args:
        texts: What others have, and the class that it means: ``FROM=CLASS``, or ``FROM+FROM=CLASS``.
        legend: The classes that are meant, given by name, by the unique beginning of one, or by index.
        source: Legend of the classes that others have; then numbers and colours are those of its classes, too. Without
            it they are the numbers and colours of masks, and names are classes of ``legend``.
    Raises:
        ConfigError: A pair has another form, its class is unknown, or a number, colour or name has two.

    Example:
        >>> from levelground.imagery.legend import DEEPGLOBE, default_legend
        >>> read_class_map(["3+4=class 1", "#FF0000=0"], default_legend(2)).numbers
        {3: 1, 4: 1}
        >>> read_class_map(["class 1=Water", "2=Forest"], DEEPGLOBE, default_legend(3)).classes
        {1: 4, 2: 3}
    """
    numbers: dict[int, int] = {}
    colours: dict[RGB, int] = {}
    classes: dict[int, int] = {}
    for text in texts:
        left, equals, target = text.rpartition("=")
        if not equals or not left.strip() or not target.strip():
            raise ConfigError(f"--class-map {text!r}: expected FROM=CLASS, such as {_example(legend, source)}.")
        index = _class_index(target, legend, text)
        whole = find_class(left, source or legend) is not None
        for word in [left] if whole else [part.strip() for part in left.split("+")]:
            if source is not None:
                given = classes.setdefault(_class_index(word, source, text), index)
            elif re.fullmatch(r"#[0-9A-Fa-f]{6}", word):
                given = colours.setdefault(_colour(word), index)
            elif is_whole_number(word):
                given = numbers.setdefault(int(word), index)
            else:
                given = classes.setdefault(_class_index(word, legend, text), index)
            if given != index:
                raise ConfigError(f"--class-map {text!r}: {word.strip()} is given two classes. Give it one.")
    return ClassMap(numbers, colours, classes)


def _example(legend: Legend, source: Legend | None) -> str:
    """Return an example of a pair."""
    if source is None:
        return "1=Water, 3+4=0 or '#00FF00=2'"
    return f'"{source.names[0]}={legend.names[0]}"'


def _colour(word: str) -> RGB:
    red, green, blue = bytes.fromhex(word[1:])
    return red, green, blue


def _class_index(word: str, legend: Legend, pair: str) -> int:
    """Return the index of the class that one side of a pair names, by name, beginning, index or colour."""
    text = word.strip()
    if (named := find_class(text, legend)) is not None:
        return named
    if text.isascii() and text.isdigit() and int(text) < legend.n_classes:
        return int(text)
    if (begun := find_class_beginning(text, legend)) is not None:
        return begun
    if re.fullmatch(r"#[0-9A-Fa-f]{6}", text) and _colour(text) in dict(legend.table):
        return dict(legend.table)[_colour(text)]
    raise ConfigError(
        f"--class-map {pair!r}: {text!r} is not a class of {legend.name!r}. Its classes are {', '.join(legend.names)}."
    )


def channel_classes(n: int, legend: Legend, class_map: ClassMap, *, source: str) -> tuple[int, ...]:
    """Return the legend index of each of ``n`` channels.

    Raises:
        SceneError: Their number fits neither all classes nor the counted ones, and the map does not name each.
    """
    counted = np.flatnonzero(legend.counted).tolist()
    own = list(range(legend.n_classes)) if n == legend.n_classes else counted if n == len(counted) else []
    if class_map.numbers or not own:
        missing = [number for number in range(n) if number not in class_map.numbers]
        if missing or n < 2:
            raise SceneError(
                f"{source}: {n} channels, and {legend.name!r} has {legend.n_classes} classes, {len(counted)} of them "
                f"counted. Name the class of each, {missing[0] if missing else 0} too: --class-map "
                f"{' '.join(f'{number}=CLASS' for number in range(min(n, 4)))}{' …' if n > 4 else ''}"
            )
        own = [class_map.numbers[number] for number in range(n)]
    return tuple(class_map.classes.get(index, index) for index in own)
