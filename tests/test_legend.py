"""Legends: what they refuse, how files are read, and how colours become classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.scene_files import TWO

from levelground.errors import ClassIndexError, LabelColourError, LegendError, ShapeError
from levelground.imagery.colours import distinct_colours
from levelground.imagery.legend import (
    DEEPGLOBE,
    IGNORE,
    Legend,
    LegendClass,
    count_impure,
    decode_colours,
    default_legend,
    encode_colours,
)
from levelground.imagery.legend_sources import read_legend

TOML = """
name = "dubai"
ignored = ["000000"]

[[class]]
index = 1
name = "Water"
colour = [226, 169, 41]
name_ru = "Вода"

[[class]]
index = 0
name = "Land"
colour = "#8429f6"
counted = false
"""


def _with(**changes: object) -> Legend:
    return Legend(**{"name": "x", "classes": TWO.classes, **changes})  # type: ignore[arg-type]


def test_deepglobe_has_the_origins_order_and_does_not_count_unknown() -> None:
    """Seven classes with Russian names; the last is not counted."""
    assert DEEPGLOBE.names == (
        "Urban land", "Agriculture land", "Rangeland", "Forest land", "Water", "Barren land", "Unknown",
    )  # fmt: skip
    assert DEEPGLOBE.counted.tolist() == [True] * 6 + [False]
    assert DEEPGLOBE.classes[1].name_ru == "Пашня"
    assert DEEPGLOBE.colours.tolist() == [
        [0, 255, 255], [255, 255, 0], [255, 0, 255], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0],
    ]  # fmt: skip


def test_digest_follows_what_scores_depend_on() -> None:
    """Counting, colours and names change it; the legend's own name, the rule and Russian names do not."""
    plain = Legend("a", (LegendClass(0, "x", (1, 2, 3)), LegendClass(1, "y", (200, 5, 6))))
    same = Legend("b", (LegendClass(0, "x", (1, 2, 3), name_ru="икс"), LegendClass(1, "y", (200, 5, 6))), "threshold")
    other = Legend("a", (LegendClass(0, "x", (1, 2, 3)), LegendClass(1, "y", (200, 5, 6), counted=False)))
    assert plain.digest() == same.digest()
    assert plain.digest() != other.digest()


def test_file_is_read_in_the_order_of_indices(tmp_path: Path) -> None:
    """Colours may be hexadecimal or three numbers; ``counted`` is true unless said."""
    path = tmp_path / "legend.toml"
    path.write_text(TOML, encoding="utf-8")
    assert read_legend(path) == Legend(
        "dubai",
        (
            LegendClass(0, "Land", (0x84, 0x29, 0xF6), counted=False),
            LegendClass(1, "Water", (226, 169, 41), True, "Вода"),
        ),
        "exact",
        ((0, 0, 0),),
    )


def test_legend_without_a_name_takes_the_files(tmp_path: Path) -> None:
    """The name is optional."""
    path = tmp_path / "forests.toml"
    path.write_text('class = [{index = 0, name = "a", colour = "000000"}]', encoding="utf-8")
    assert read_legend(path).name == "forests"


def test_json_round_trip_keeps_everything() -> None:
    """``from_json`` undoes ``to_json``."""
    assert Legend.from_json(DEEPGLOBE.to_json()) == DEEPGLOBE
    assert Legend.from_json(TWO.to_json()) == TWO


def test_default_legend_numbers_classes_in_unlike_colours() -> None:
    """Up to 255 classes, all counted."""
    legend = default_legend(255)
    assert legend.n_classes == 255
    assert legend.names[254] == "class 254"
    assert legend.counted.all()
    assert len(set(map(tuple, legend.colours.tolist()))) == 255
    assert distinct_colours(2) == ((230, 159, 0), (86, 180, 233))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"classes": ()}, r"legend 'x' has 0 classes, expected 1 to 255\.$"),
        (
            {"classes": tuple(LegendClass(i, str(i), (i % 256, i // 256, 0)) for i in range(256))},
            r"legend 'x' has 256 classes, expected 1 to 255\.$",
        ),
        (
            {"classes": (LegendClass(0, "a", (0, 0, 0)), LegendClass(2, "b", (1, 1, 1)))},
            r"'x' has class index 2 where 1 was expected\. Number the classes 0 to 1 without a gap or a double\.$",
        ),
        (
            {"classes": (LegendClass(0, "a", (0, 0, 0)), LegendClass(1, "a", (1, 1, 1)))},
            r"legend 'x' has the class name 'a' twice or empty\. Name each class\.$",
        ),
        (
            {"classes": (LegendClass(0, "a", (7, 8, 9)), LegendClass(1, "b", (7, 8, 9)))},
            r"legend 'x': a and b have colour \(7, 8, 9\)\. Give each its own\.$",
        ),
        (
            {"classes": (LegendClass(0, "a", (7, 8, 9)), LegendClass(1, "b", (9, 8, 7))), "rule": "threshold"},
            r"legend 'x': a and b have the same colour after binarising at 128\. Give each its own\.$",
        ),
        (
            {"classes": (LegendClass(0, "a\nb", (0, 0, 0)),)},
            r"legend name 'a\\nb' has a line break or another character that is not printed\.$",
        ),
        (
            {"ignored_colours": ((200, 100, 0),)},
            r"legend 'x': wood and ignored have colour \(200, 100, 0\)\. Give each its own\.$",
        ),
        (
            {"classes": (LegendClass(0, "a", (0, 0, 256)),)},
            r"legend 'x': colour of a is \(0, 0, 256\), expected three numbers 0 to 255\.$",
        ),
        (
            {"classes": (LegendClass(0, "a", (0, 0, 0), counted=False),)},
            r"legend 'x' counts no class\. Set counted = true for those that are scored\.$",
        ),
    ],
)
def test_legend_that_contradicts_itself_is_refused(changes: dict[str, object], text: str) -> None:
    """Each contradiction has its line."""
    with pytest.raises(LegendError, match=text):
        _with(**changes)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[[class", r"legend\.toml: is not TOML \(.*\)\. See docs/legends\.md for the form\.$"),
        (b"\xff\xfe", r"legend\.toml: is not TOML \(.*\)\."),
        (
            "",
            r"\.toml: the legend has no \[\[class\]\] entries\. Give one for each class, with index, name, colour\.$",
        ),
        ("class = 3", r"the legend has no \[\[class\]\] entries"),
        ("class = [3]", r"a class is 3, expected index, name and colour\.$"),
        ("colors = 1", r"the legend has the unknown key 'colors', expected class, ignored, name, nodata, rule\.$"),
        (
            'class = [{index = 0, nam = "a"}]',
            r"class 0 has the unknown key 'nam', expected also, colour, counted, index, name",
        ),
        ('class = [{index = "0", name = "a", colour = "000000"}]', r"class '0': index is '0', expected int\.$"),
        ('class = [{index = true, name = "a", colour = "000000"}]', r"class True: index is True, expected int\.$"),
        ('class = [{index = 0, colour = "000000"}]', r"class 0: name is None, expected str\.$"),
        ('class = [{index = 0, name = "a"}]', r'class 0: colour is None, expected "8429F6" or \[132, 41, 246\]\.$'),
        ('class = [{index = 0, name = "a", colour = "00000g"}]', r"class 0: colour is '00000g', expected"),
        ('class = [{index = 0, name = "a", colour = [1, 2]}]', r"class 0: colour is \[1, 2\], expected"),
        (
            'ignored = 3\nclass = [{index = 0, name = "a", colour = "000000"}]',
            r"ignored is 3, expected a list of colours",
        ),
        (
            'rule = "near"\nclass = [{index = 0, name = "a", colour = "000000"}]',
            r"rule is 'near', expected \"exact\" or",
        ),
        ('class = [{index = 1, name = "a", colour = "000000"}]', r"class index 1 where 0 was expected"),
    ],
)
def test_bad_legend_file_is_named_in_the_error(tmp_path: Path, content: str | bytes, text: str) -> None:
    """The message begins with the file."""
    path = tmp_path / "legend.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LegendError, match=text) as caught:
        read_legend(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_legend_file_is_one_line(tmp_path: Path) -> None:
    """The remedy is the flag."""
    with pytest.raises(
        LegendError, match=r"none\.toml: cannot be read \(No such file.*\)\. Give a legend file with --legend"
    ):
        read_legend(tmp_path / "none.toml")


def test_threshold_rule_binarises_each_channel_at_128() -> None:
    """127 is dark and 128 is light."""
    rgb = np.uint8([[[0, 128, 255], [127, 127, 127], [128, 128, 128], [200, 130, 3], [0, 127, 128]]])
    assert decode_colours(rgb, DEEPGLOBE, source="m").tolist() == [[0, 6, 5, 1, 4]]


def test_exact_rule_reads_ignored_colours_as_ignore() -> None:
    """Black is no class of the legend ``two``, and is ignored."""
    rgb = np.uint8([[[10, 20, 30], [200, 100, 0], [0, 0, 0]]])
    assert decode_colours(rgb, TWO, source="m").tolist() == [[0, 1, IGNORE]]


def test_unknown_colour_is_counted_and_its_first_pixel_named() -> None:
    """The most frequent foreign colour is named, the number of others too."""
    rgb = np.full((4, 5, 3), (10, 20, 30), np.uint8)
    rgb[1, 3] = rgb[2, 0] = rgb[2, 4] = (1, 255, 254)
    rgb[0, 2] = (9, 9, 9)
    text = (
        r"^8456_mask\.png: 3 pixels have colour \(1, 255, 254\), which is not a class of 'two' \(first at row 1, "
        r"column 3; 2 such colours\)\. Fix the file or add it to the legend\.$"
    )
    with pytest.raises(LabelColourError, match=text):
        decode_colours(rgb, TWO, source="8456_mask.png")


def test_near_colour_is_refused_with_the_flag_that_would_snap_it() -> None:
    """Without ``snap`` nothing is guessed; with it the nearest class is taken."""
    rgb = np.uint8([[[10, 20, 30], [12, 20, 27]]])
    text = r"1 pixel has colour \(12, 20, 27\).*first at row 0, column 1\)\. Fix the file or pass --snap-colours 8\.$"
    with pytest.raises(LabelColourError, match=text):
        decode_colours(rgb, TWO, source="m", snap=2)
    assert decode_colours(rgb, TWO, source="m", snap=3).tolist() == [[0, 0]]


def test_snapping_goes_to_ignored_colours_too() -> None:
    """A nearly black pixel becomes no data where black is."""
    assert decode_colours(np.uint8([[[1, 2, 0]]]), TWO, source="m", snap=4).tolist() == [[IGNORE]]


def test_threshold_rule_without_a_class_for_a_corner_refuses_it() -> None:
    """Red is no DeepGlobe class."""
    with pytest.raises(
        LabelColourError, match=r"1 pixel has colour \(255, 0, 0\), which is not a class of 'deepglobe'"
    ):
        decode_colours(np.uint8([[[255, 0, 0]]]), DEEPGLOBE, source="m")


def test_index_254_and_no_data_stay_apart() -> None:
    """A legend of 255 classes leaves 255 for no data."""
    legend = default_legend(255)
    black = Legend("x", legend.classes, "exact", ((0, 0, 0),))
    labels = np.uint8([[254, 0, IGNORE]])
    assert decode_colours(encode_colours(labels, black), black, source="m").tolist() == [[254, 0, IGNORE]]


def test_wrong_shape_or_type_is_refused() -> None:
    """Colours are uint8 triples."""
    with pytest.raises(ShapeError, match=r"^m: colours are uint8 \(2, 2\), expected uint8 \(height, width, 3\)\.$"):
        decode_colours(np.zeros((2, 2), np.uint8), DEEPGLOBE, source="m")
    with pytest.raises(ShapeError, match=r"colours are int64 \(2, 2, 3\)"):
        decode_colours(np.zeros((2, 2, 3), np.int64), DEEPGLOBE, source="m")  # type: ignore[arg-type]


def test_empty_mask_gives_empty_labels() -> None:
    """No pixel, no label."""
    assert decode_colours(np.zeros((0, 4, 3), np.uint8), DEEPGLOBE, source="m").shape == (0, 4)


def test_encoding_refuses_an_index_outside_the_legend() -> None:
    """The largest is named."""
    with pytest.raises(ClassIndexError, match=r"^label 9 is not a class of 'deepglobe', expected 0 to 6\.$"):
        encode_colours(np.uint8([[0, 7, 9]]), DEEPGLOBE)


def test_encoding_gives_ignore_the_first_ignored_colour_or_black() -> None:
    """255 has a colour too."""
    white = Legend("w", TWO.classes, "exact", ((255, 255, 255), (0, 0, 0)))
    assert encode_colours(np.uint8([[IGNORE]]), white).tolist() == [[[255, 255, 255]]]
    assert encode_colours(np.uint8([[IGNORE]]), DEEPGLOBE).tolist() == [[[0, 0, 0]]]


def test_impure_pixels_are_those_without_an_exact_colour() -> None:
    """Ignored colours are pure."""
    assert count_impure(np.uint8([[[10, 20, 30], [10, 20, 31], [0, 0, 0]]]), TWO) == 1


def test_a_legend_in_russian_has_its_russian_names() -> None:
    """Names and Russian names change places; a legend without one for each class, or with one twice, stays."""
    russian = DEEPGLOBE.in_language("ru")
    assert russian.names == tuple(entry.name_ru for entry in DEEPGLOBE.classes)
    assert [entry.name_ru for entry in russian.classes] == list(DEEPGLOBE.names)
    assert russian.in_language("ru") == DEEPGLOBE
    assert DEEPGLOBE.in_language("en") is DEEPGLOBE
    first, *others = DEEPGLOBE.classes
    for name_ru in (None, "Пашня"):
        mixed = replace(DEEPGLOBE, classes=(replace(first, name_ru=name_ru), *others))
        assert mixed.in_language("ru") is mixed
