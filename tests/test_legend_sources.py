"""Legends that are shipped, and names and colours that lie beside masks: classes and their pixels are the truth's."""

import re
import shlex
import struct
from pathlib import Path

import numpy as np
import pytest
from builders.field_sets import N_SCENES, classes_of, image_of, pixels, prepare, write_pairs
from builders.scene_files import save

from levelground.cli import main
from levelground.errors import ConfigError, DataError, LegendError
from levelground.imagery.geotiff import RasterInfo, write_raster
from levelground.imagery.legend import DEEPGLOBE, Legend, decode_colours, encode_colours
from levelground.imagery.legend_sources import merge_classes, read_legend, read_table, shipped_legends
from levelground.imagery.stored_values import labels_of_values

WORLD = (10, 30, 80, 50)  # tree, grass, water, built: by class, so 80 before 50
NAMES = {10: "Tree cover", 30: "Grassland", 50: "Built-up", 80: "Permanent water bodies"}
HEX = {10: "006400", 30: "FFFF4C", 50: "FA0000", 80: "0064C8"}


def rgb(value: int) -> tuple[int, ...]:
    """The colour of a value."""
    return tuple(bytes.fromhex(HEX[value]))


def by_value(truth: np.ndarray) -> list[int]:
    """Order the pixels of the classes 10, 30, 80, 50 by value."""
    return [*truth[[0, 1, 3, 2]].tolist(), int(truth[4])]


def qml(masks: Path) -> Path:
    """A QGIS style for all masks of the folder."""
    entries = "".join(f'<paletteEntry value="{v}" label="{NAMES[v]}" color="#{HEX[v].lower()}"/>' for v in NAMES)
    path = masks / "worldcover.qml"
    path.write_text(
        f"<qgis><pipe><rasterrenderer><colorPalette>{entries}</colorPalette></rasterrenderer></pipe></qgis>"
    )
    return path


def clr(masks: Path) -> Path:
    """A colour file under a mask's name."""
    path = masks / "s0.clr"
    path.write_text("".join(f"{v} {' '.join(map(str, rgb(v)))} 255 {NAMES[v]}\n" for v in NAMES))
    return path


def vat_csv(masks: Path) -> Path:
    """A value attribute table as text."""
    path = masks / "s0.tif.vat.csv"
    rows = "".join(f"{n},{v},{NAMES[v]},{','.join(map(str, rgb(v)))}\n" for n, v in enumerate(NAMES))
    path.write_text("OID,Value,Class_Name,Red,Green,Blue\n" + rows)
    return path


def vat_dbf(masks: Path) -> Path:
    """A value attribute table in dBase III, as ArcGIS writes it."""
    columns = (
        ("Value", "N", 9),
        ("Count", "F", 19),
        ("Class_Name", "C", 40),
        ("Red", "N", 4),
        ("Green", "N", 4),
        ("Blue", "N", 4),
    )
    fields = b"".join(
        name.encode().ljust(11, b"\0") + kind.encode() + bytes(4) + bytes([width, 0]) + bytes(14)
        for name, kind, width in columns
    )
    rows = b"".join(
        b" "
        + b"".join(
            str(cell).encode().rjust(width) if kind != "C" else str(cell).encode().ljust(width)
            for cell, (_, kind, width) in zip((v, 7, NAMES[v], *rgb(v)), columns, strict=True)
        )
        for v in NAMES
    )
    head = struct.pack("<BBBBIHH20x", 3, 124, 1, 1, len(NAMES), 32 + len(fields) + 1, 1 + sum(c[2] for c in columns))
    path = masks / "s0.tif.vat.dbf"
    path.write_bytes(head + fields + b"\r" + rows + b"\x1a")
    return path


def rat(masks: Path) -> Path:
    """GDAL's attribute table of a raster."""
    columns = "".join(
        f"<FieldDefn index='{n}'><Name>{name}</Name></FieldDefn>"
        for n, name in enumerate(("Value", "Class", "R", "G", "B"))
    )
    rows = "".join(f"<Row>{''.join(f'<F>{cell}</F>' for cell in (v, NAMES[v], *rgb(v)))}</Row>" for v in NAMES)
    path = masks / "s0.tif.aux.xml"
    path.write_text(
        f"<PAMDataset><PAMRasterBand band='1'><GDALRasterAttributeTable>{columns}{rows}"
        "</GDALRasterAttributeTable></PAMRasterBand></PAMDataset>"
    )
    return path


@pytest.mark.parametrize("beside", [qml, clr, vat_csv, vat_dbf, rat])
def test_names_and_colours_beside_masks_are_taken(tmp_path: Path, beside: object) -> None:
    """From each kind of table; the same file is a legend by itself."""
    truth = write_pairs(tmp_path / "data", WORLD)
    path = beside(tmp_path / "data/labels")  # type: ignore[operator]
    dataset = prepare(tmp_path / "data")
    assert dataset.legend.names == tuple(NAMES.values())
    assert dataset.legend.colours.tolist() == [list(rgb(v)) for v in NAMES]
    assert pixels(dataset) == by_value(truth)
    if path.suffix != ".xml":
        given = prepare(tmp_path / "data", legend=path)
        assert (given.legend.names, pixels(given)) == (dataset.legend.names, by_value(truth))


def test_palette_inside_masks_gives_the_colours(tmp_path: Path) -> None:
    """Names are the values."""
    palette = np.zeros((256, 3), np.uint8)
    for value in NAMES:
        palette[value] = rgb(value)
    truth = write_pairs(tmp_path / "data", WORLD)
    for path in sorted((tmp_path / "data/labels").iterdir()):
        number = int(path.stem[1:])
        write_raster(path, np.uint8(WORLD)[classes_of(number)], RasterInfo(0, 0, 0, "", 0), palette=palette)
    dataset = prepare(tmp_path / "data")
    assert dataset.legend.colours.tolist() == [list(rgb(v)) for v in NAMES]
    assert dataset.legend.names == ("value 10", "value 30", "value 50", "value 80")
    assert pixels(dataset) == by_value(truth)


@pytest.mark.parametrize("content", ["<qgis/>", "not xml", "<qgis><paletteEntry value='x'/></qgis>"])
def test_a_table_that_names_nothing_is_passed_over(tmp_path: Path, content: str) -> None:
    """An empty style of QGIS does not stop anyone."""
    truth = write_pairs(tmp_path / "data")
    (tmp_path / "data/labels/s0.qml").write_text(content)
    dataset = prepare(tmp_path / "data")
    assert (dataset.legend.names[0], pixels(dataset)) == ("class 0", truth.tolist())


def test_values_named_no_data_are_none(tmp_path: Path) -> None:
    """By their name in the table."""
    truth = write_pairs(tmp_path / "data", WORLD, collar=99)
    rows = "".join(f"{v};{NAMES[v]}\n" for v in NAMES)
    (tmp_path / "data/labels/s1.vat.csv").write_text(f"value;name\n{rows}99;No data\n")
    assert pixels(prepare(tmp_path / "data")) == by_value(truth)


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        (WORLD, {"legend": Path("worldcover")}, {0: 0, 2: 1, 4: 3, 7: 2}),
        ((111, 211, 311, 512), {"legend": Path("corine-level1")}, {0: 0, 1: 1, 2: 2, 4: 3}),
        ((112, 212, 313, 523), {"legend": Path("corine-level2")}, {0: 0, 4: 1, 8: 2, 14: 3}),
        ((1, 12, 23, 44), {"legend": Path("corine-level3-grid")}, {0: 0, 11: 1, 22: 2, 43: 3}),
        ((1, 2, 3, 4), {"legend": Path("openearthmap")}, {0: 0, 1: 1, 2: 2, 3: 3}),
        ((1, 2, 14, 19), {"legend": Path("flair")}, {0: 0, 1: 1, 12: (2, 3)}),
    ],
)
def test_shipped_legends_count_the_truth(
    tmp_path: Path, values: tuple[int, ...], options: dict[str, Path], expected: dict[int, int | tuple[int, ...]]
) -> None:
    """By name on the command line; the collar of 0 is no data."""
    truth = write_pairs(tmp_path / "data", values, dtype="int16", collar=0)
    counted = pixels(prepare(tmp_path / "data", **options))
    assert {n: count for n, count in enumerate(counted[:-1]) if count} == {
        n: int(truth[list(of) if isinstance(of, tuple) else [of]].sum()) for n, of in expected.items()
    }
    assert counted[-1] == truth[4]


def test_every_shipped_legend_reads() -> None:
    """DeepGlobe's is the one built in."""
    legends = {name: read_legend(name) for name in shipped_legends()}
    assert legends["deepglobe"] == DEEPGLOBE
    assert legends["corine-level3"].names == legends["corine-level3-grid"].names
    assert len(legends["corine-level3"].classes) == 44
    for level, n in ((1, 5), (2, 15)):
        codes, grid = (legends[f"corine-level{level}{kind}"] for kind in ("", "-grid"))
        assert codes.n_classes == n
        assert [len(one.values) for one in codes.classes] == [len(one.values) for one in grid.classes]
        assert {value for one in grid.classes for value in one.values} == {*range(1, 45)}
    assert all(legend.name == name for name, legend in legends.items())


def test_legends_are_listed_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed is a legend file; an existing file stays."""
    assert main(["legends"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == [*shipped_legends()]
    assert main(["legends", "loveda"]) == 0
    (tmp_path / "mine.toml").write_text(capsys.readouterr().out)
    assert read_legend(tmp_path / "mine.toml") == read_legend("loveda")
    assert main(["legends", "loveda", "--out", str(tmp_path / "out.toml")]) == 0
    assert read_legend(tmp_path / "out.toml") == read_legend("loveda")
    for wrong, says in (
        (["lovedas"], "no such legend"),
        (["loveda", "--out", str(tmp_path / "out.toml")], "exists already"),
    ):
        assert main(["legends", *wrong]) == 2
        assert says in capsys.readouterr().err


def test_an_unknown_legend_is_refused_with_the_command_that_lists_them(tmp_path: Path) -> None:
    """A typing error names the remedy."""
    write_pairs(tmp_path / "data")
    with pytest.raises(LegendError, match="levelground legends lists"):
        prepare(tmp_path / "data", legend=Path("wordcover"))


@pytest.mark.parametrize(
    ("content", "says"),
    [("Code,Name\n", "names 0 values"), ("a,b\n1,2\n", "no column value"), ("value\nx\n", "names 0")],
)
def test_a_table_without_values_is_refused(tmp_path: Path, content: str, says: str) -> None:
    """And what it lacks is said."""
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(LegendError, match=says):
        read_legend(path)


@pytest.mark.parametrize("cut", [0, 10, 40, 100])
def test_a_truncated_table_is_refused(tmp_path: Path, cut: int) -> None:
    """In one line."""
    whole = vat_dbf(tmp_path).read_bytes()
    (tmp_path / "cut.dbf").write_bytes(whole[:cut])
    with pytest.raises(LegendError, match="is not a table of values and names"):
        read_table(tmp_path / "cut.dbf")


def test_one_negative_value_is_no_data_with_a_warning(tmp_path: Path) -> None:
    """Sen1Floods11 and HLS write -1 without a tag; asked for, nothing is warned of."""
    truth = write_pairs(tmp_path / "data", dtype="int16", collar=-1)
    dataset = prepare(tmp_path / "data")
    assert pixels(dataset) == truth.tolist()
    assert any(one.code == "dropped-values" and "--label-nodata -1" in one.text for one in dataset.findings)
    asked = prepare(tmp_path / "data", label_nodata=(-1,))
    assert pixels(asked) == truth.tolist()
    assert not any(one.code == "dropped-values" for one in asked.findings)


def test_several_negative_values_are_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    """The flag in the message, followed."""
    truth = write_pairs(tmp_path / "data", (0, 1, 2, -2), dtype="int16", collar=-9999)
    with pytest.raises(DataError) as caught:
        prepare(tmp_path / "data")
    flag, *values = shlex.split(str(caught.value).partition("pass ")[2].partition(";")[0].rstrip("."))
    assert flag == "--label-nodata"
    dataset = prepare(tmp_path / "data", label_nodata=tuple(map(int, values)))
    assert pixels(dataset) == [*truth[:3].tolist(), int(truth[3] + truth[4])]


@pytest.mark.parametrize("tag", [None, 0])
def test_classes_from_1_on_with_0_as_no_data(tmp_path: Path, tag: int | None) -> None:
    """By the files' tag, or by the flag that the line names."""
    truth = write_pairs(tmp_path / "data", (1, 2, 3, 4), nodata=tag, collar=0)
    dataset = prepare(tmp_path / "data", label_nodata=() if tag == 0 else (0,))
    assert (dataset.legend.names, pixels(dataset)) == (("value 1", "value 2", "value 3", "value 4"), truth.tolist())


def test_no_data_that_is_a_class_is_refused(tmp_path: Path) -> None:
    """A flag cannot contradict the legend; colours have no values."""
    write_pairs(tmp_path / "data", WORLD)
    with pytest.raises(LegendError, match="has 10 as a class"):
        prepare(tmp_path / "data", legend=Path("worldcover"), label_nodata=(10,))
    with pytest.raises(ConfigError, match="--label-nodata: masks hold colours"):
        prepare(tmp_path / "data", layout="folders", label_nodata=(10,))


def test_values_of_a_shipped_legend_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line names the legend that fits."""
    write_pairs(tmp_path / "data", WORLD)
    prepare(tmp_path / "data")
    assert "the values fit --legend worldcover" in capsys.readouterr().err


SETS = {
    "flair": ("aerial/D1/IMG_{}.tif", "labels/D1/MSK_{}.tif"),
    "sen1floods11": ("S2Hand/Ghana_{}_S2Hand.tif", "LabelHand/Ghana_{}_LabelHand.tif"),
    "hls-burn-scars": ("training/T10_{}_merged.tif", "training/T10_{}.mask.tif"),
    "": ("m_{}_naip-new.tif", "m_{}_lc.tif"),
}


@pytest.mark.parametrize("name", [*SETS])
def test_public_sets_are_told_by_their_names(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With their legend where the values are its, numbered otherwise."""
    image, label = SETS[name]
    legend = read_legend(name) if name else None
    values = [one.values[0] for one in legend.classes][:4] if legend else [0, 1, 2, 3]
    values += values[: 4 - len(values)]
    truth = write_pairs(tmp_path / "data", values, image=image, label=label, dtype="int16")
    dataset = prepare(tmp_path / "data")
    expected = np.bincount([values.index(value) for value in values], truth[:4], minlength=dataset.legend.n_classes)
    assert (len(dataset.scenes), pixels(dataset)[:-1]) == (N_SCENES, expected.tolist())
    assert dataset.legend.names[0] == (legend.names[0] if legend else "class 0")
    (tmp_path / "other").mkdir()
    truth = write_pairs(tmp_path / "other/data", (90, 91, 92, 93), image=image, label=label)
    dataset = prepare(tmp_path / "other/data")
    assert (dataset.legend.names[0], pixels(dataset)) == ("value 90", truth.tolist())


def test_loveda_is_told_by_its_folders(tmp_path: Path) -> None:
    """Rural and Urban are kinds of land, not groups; value 0 is no data."""
    truth = np.zeros(8, np.int64)
    for number in range(6):
        labels = classes_of(number)
        folder = tmp_path / f"data/Train/{('Rural', 'Urban')[number % 2]}"
        save(folder / f"images_png/{number}.png", image_of(labels, number))
        save(folder / f"masks_png/{number}.png", labels)
        truth += [*np.bincount(labels.ravel(), minlength=8)]
    dataset = prepare(tmp_path / "data")
    assert (dataset.legend, len({scene.group for scene in dataset.scenes})) == (read_legend("loveda"), 6)
    assert pixels(dataset) == [*truth[1:].tolist(), truth[0]]


def test_classes_are_merged_by_name(tmp_path: Path) -> None:
    """One class with both colours and both values; those after it move up, and records read the same back."""
    (tmp_path / "merged.toml").write_text('base = "deepglobe"\nmerge = "rangeland+BARREN"\n', encoding="utf-8")
    legend = read_legend(tmp_path / "merged.toml")
    assert legend.names == (
        "Urban land", "Agriculture land", "Rangeland + Barren land", "Forest land", "Water", "Unknown",
    )  # fmt: skip
    assert (legend.name, legend.counted.tolist()) == ("merged", [True] * 5 + [False])
    labels = np.arange(7, dtype=np.uint8)[None]
    expected = [[0, 1, 2, 3, 4, 2, 5]]
    assert decode_colours(encode_colours(labels, DEEPGLOBE), legend, source="x").tolist() == expected
    assert labels_of_values(labels, legend, None)[0].tolist() == expected
    assert Legend.from_json(legend.to_json()) == legend


def test_several_groups_are_merged_at_once() -> None:
    """Each takes the place of its first class."""
    once = merge_classes(DEEPGLOBE, ["urban+water", "forest + rangeland"])
    assert once.names[:2] == ("Urban land + Water", "Agriculture land")
    assert [entry.values for entry in once.classes] == [(0, 4), (1,), (2, 3), (5,), (6,)]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('merge = "road+water"', "merge: 'road' is not one class. The classes are Urban land, Agriculture land"),
        ('merge = "water"', "merge 'water': expected two classes or more, each once"),
        ('merge = "water+Water"', "merge 'water+Water': expected two classes or more, each once"),
        ('merge = ["water+barren", "forest+water"]', "merge 'forest+water': expected two classes or more, each once"),
        ('merge = "water+unknown"', "merge: Water and Unknown: one counts and another does not."),
        ("merge = 3", "merge is 3, expected names joined by +"),
    ],
)
def test_wrong_merges_are_refused(tmp_path: Path, line: str, fault: str) -> None:
    """The legend file is named."""
    path = tmp_path / "l.toml"
    path.write_text(f'base = "deepglobe"\n{line}\n', encoding="utf-8")
    with pytest.raises(LegendError, match=f"^{re.escape(f'{path}: {fault}')}"):
        read_legend(path)
