"""Runs that are judged on another data set."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from builders.scene_files import noise, random_labels, save_raster
from builders.study import LEGEND, SPLIT, add_run, build_study
from torch import nn

from levelground.cli import main
from levelground.comparison.compare import compare_runs
from levelground.datasets.dataset import Dataset, read_dataset, write_dataset
from levelground.datasets.prepare import PrepareOptions, prepare_dataset
from levelground.datasets.splits import Split
from levelground.errors import ConfigError, ModelError, UnlikeError
from levelground.evaluation.transfer import check_transferable, learnt_scenes, match_outputs, transfer_run
from levelground.imagery.class_maps import read_class_map
from levelground.imagery.legend import DEEPGLOBE, Legend, LegendClass, default_legend
from levelground.metrics.counts import read_counts
from levelground.models.own_networks import SummedOutputs
from levelground.runs import Run, read_run

FLAGS = ["--device", "cpu", "--precision", "fp32", "--threads", "1"]

FOREIGN = Legend(
    "foreign",
    (
        LegendClass(0, "water", (0, 0, 255)),
        LegendClass(1, "Vegetation", (0, 255, 0)),
        LegendClass(2, "Rock", (90, 90, 90)),
        LegendClass(3, "Bare", (200, 90, 90)),
    ),
)


@pytest.fixture
def north(tmp_path: Path) -> Dataset:
    """The study that runs are trained in."""
    return build_study(tmp_path / "north")


@pytest.fixture
def south(tmp_path: Path) -> Dataset:
    """A study of other scenes by their hashes, with a legend of its own."""
    made = build_study(tmp_path / "south")
    scenes = [dataclasses.replace(scene, image_sha256=f"{n:064x}") for n, scene in enumerate(made.scenes)]
    write_dataset(dataclasses.replace(made, legend=FOREIGN, scenes=tuple(scenes)), made.folder)
    return read_dataset(made.folder)


def evaluate_on(run: Run, study: Path, *more: str) -> int:
    """Run the command."""
    return main(["evaluate", str(run.folder), "--on", str(study), *more, *FLAGS])


def test_a_copy_of_the_own_study_gives_the_own_counts_to_the_bit(north: Dataset, tmp_path: Path) -> None:
    """Every array but the times: counts, boundaries, confidences and losses; and in place nothing is copied."""
    run = add_run(north, dtype="uint8")
    assert main(["evaluate", str(north.folder), *FLAGS]) == 0
    shutil.copytree(north.folder, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("runs"))
    assert evaluate_on(run, tmp_path / "elsewhere") == 0
    copy = read_run(tmp_path / "elsewhere/runs/linknet-s0-from-study")
    own, theirs = (vars(read_counts(one.counts_path("test"))) for one in (run, copy))
    assert own.keys() == theirs.keys()
    for name in own.keys() - {"forward_s"}:
        assert np.array_equal(own[name], theirs[name]), name
    assert copy.card.mean == run.card.mean
    assert evaluate_on(run, north.folder) == 0
    assert [path.name for path in (north.folder / "runs").iterdir()] == ["linknet-s0"]


def test_classes_are_matched_and_named(north: Dataset, south: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """Equal names are one class in any order; what cannot be predicted is said, and the page says who learnt where."""
    run = add_run(north, dtype="uint8")
    assert evaluate_on(run, south.folder) == 2
    text = "linknet-s0: predicts Field, Wood, which 'foreign' does not have. Say what each becomes"
    assert text in " ".join(capsys.readouterr().err.split())
    assert not (south.folder / "runs").exists()
    assert evaluate_on(run, south.folder, "--class-map", "Field=Vegetation", "wood=1") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "counts Field as Vegetation, Wood as Vegetation, Water as water." in said
    assert "has no output for Rock, Bare; these pixels count as wrong." in said
    copy = read_run(south.folder / "runs/linknet-s0-from-study")
    assert copy.card.outputs == (1, 1, 0)
    counts = read_counts(copy.counts_path("test"))
    assert counts.legend_sha256 == south.legend.digest()
    assert not counts.counts[:, :, 2:].any()
    comparison = compare_runs([copy])
    (found,) = [finding for finding in comparison.findings if finding.code == "trained_elsewhere"]
    assert found.figures == {"runs": {"study": ["linknet"]}, "scenes": {"study": 2}}
    assert "2 scenes of study" in found.text
    assert comparison.protocol["training scenes"] == f"study ({north.train_sha256[:12]})"


def test_a_second_evaluation_is_reused_and_other_maps_are_other_runs(north: Dataset, south: Dataset) -> None:
    """The copy is found again; another map of classes has other counts, so it is a run of its own."""
    run = add_run(north, dtype="uint8")
    first = ("--class-map", "Field=Vegetation", "Wood=Vegetation")
    assert evaluate_on(run, south.folder, *first) == 0
    counts = south.folder / "runs/linknet-s0-from-study/counts-test.npz"
    written = counts.stat().st_mtime_ns
    assert evaluate_on(run, south.folder, *first) == 0
    assert counts.stat().st_mtime_ns == written
    assert evaluate_on(run, south.folder, "--class-map", "Field=Bare", "Wood=Vegetation") == 0
    assert (south.folder / "runs/linknet-s0-from-study-2/counts-test.npz").exists()
    assert counts.stat().st_mtime_ns == written


def test_scenes_that_it_learnt_from_are_refused(north: Dataset, tmp_path: Path) -> None:
    """The same data under another split: a training scene there is a test scene here."""
    run = add_run(north, dtype="uint8")
    other = build_study(tmp_path / "other", split=Split(("c/1", "c/2"), ("b/1",), ("a/1", "b/2"), "random", seed=1))
    text = f"linknet-s0: learnt from 1 of the 2 test scenes of {other.folder} (a/1 is a/1 of {north.folder.resolve()})."
    with pytest.raises(UnlikeError, match=f"^{re.escape(text)}"):
        transfer_run(run, other, "test")
    (north.folder / "dataset.json").unlink()
    assert transfer_run(run, other, "test").card.transferred_from is not None


def prepare(data: Path, study: str, **options: object) -> Dataset:
    """Prepare a study beside the data."""
    out = data.parent / study
    return prepare_dataset(PrepareOptions(data=data, out=out, cache=out / "cache", **options))  # type: ignore[arg-type]


def judged_on(dataset: Dataset, *scenes: str) -> Dataset:
    """The data set with other test scenes."""
    rest = [scene.id for scene in dataset.scenes if scene.id not in scenes]
    return dataclasses.replace(dataset, split=Split(tuple(rest[:-1]), tuple(rest[-1:]), scenes, "lists"))


def older(dataset: Dataset) -> Dataset:
    """The data set as earlier versions recorded it."""
    scenes = tuple(dataclasses.replace(scene, file_sha256=None) for scene in dataset.scenes)
    return dataclasses.replace(dataset, scenes=scenes)


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    """A folder with one raster of 7 by 5 blocks of 32 px."""
    folder = tmp_path / "data"
    folder.mkdir()
    save_raster(folder / "area_rgb.tif", noise(7 * 32, 5 * 32))
    save_raster(folder / "area_label.tif", random_labels(7 * 32, 5 * 32, n_classes=3)[..., None])
    return folder


def test_blocks_that_reach_into_learnt_ones_are_refused(
    raster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blocks of another size of the raster, under any name; others of the raster are scored with a warning."""
    own = prepare(raster, "own", block=32)
    run = add_run(own, dtype="uint8")
    window = own.scene(own.ids("train")[0]).window
    assert window is not None
    shutil.copytree(raster, tmp_path / "copy")
    for n, data in enumerate((raster, tmp_path / "copy")):
        other = prepare(data, f"other{n}", block=48, split="random")
        row, col = (48 * (start // 48) for start in window[:2])
        name = next(one.id for one in other.scenes if one.window and one.window[:2] == (row, col))
        found = learnt_scenes(run, judged_on(other, name), "test")
        assert found is not None
        assert [here for here, _ in found] == [name]
        with pytest.raises(UnlikeError, match=f"^linknet-s0: learnt from 1 of the 1 test scenes of .+ \\({name} is "):
            check_transferable(run, judged_on(other, name), "test")
    assert "another version" not in capsys.readouterr().err
    unseen = judged_on(prepare(raster, "unseen", block=32), *own.ids("test"))
    assert learnt_scenes(run, unseen, "test") == []
    check_transferable(run, unseen, "test")
    n = len(own.ids("test"))
    text = f"linknet-s0: learnt from other parts, or another version, of the images of {n} of the {n} test scenes of"
    assert text in " ".join(capsys.readouterr().err.split())


def test_earlier_records_tell_rasters_by_their_place(raster: Path, tmp_path: Path) -> None:
    """They do not hold the hash of the whole file."""
    own = prepare(raster, "own", block=32)
    run = add_run(own, dtype="uint8")
    other = prepare(raster, "other", block=16, split="random")
    found = learnt_scenes(run, other, "test")
    assert found
    assert learnt_scenes(run, older(other), "test") == found
    write_dataset(older(own), own.folder)
    assert [here for here, _ in learnt_scenes(run, other, "test") or ()] == [here for here, _ in found]
    assert (tmp_path / "own/dataset.json").read_text().count("file_sha256") == 0


@pytest.mark.parametrize("change", ["zeros", "mask", "file"])
def test_scenes_are_known_however_they_are_read(
    tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another reading of zeros, or a mask beside the image; an image in its place may be another one: a warning."""
    data = tmp_path / "data"
    data.mkdir()
    for n in range(4):
        save_raster(data / f"{n}.tif", noise(32, 32, seed=n))
        save_raster(data / f"{n}_label.tif", random_labels(32, 32, n_classes=3, seed=n)[..., None])
    own = prepare(data, "own", groups="none")
    run = add_run(own, dtype="uint8")
    seen = own.ids("train")[0]
    if change == "mask":
        data = Path(shutil.copytree(data, tmp_path / "copy"))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(data / f"{seen}.tif", "r+") as image:
            image.write_mask(np.full((32, 32), 255, np.uint8))
    if change == "file":
        save_raster(data / f"{seen}.tif", noise(32, 32, seed=9))
    other = prepare(data, "other", groups="none", zero_is_nodata=False if change == "zeros" else None)
    other = judged_on(other, seen)
    if change == "file":
        assert learnt_scenes(run, other, "test") == []
        check_transferable(run, other, "test")
        assert f"1 of the 1 test scenes of {other.folder}, such as {seen}.tif." in " ".join(
            capsys.readouterr().err.split()
        )
        return
    assert other.scene(seen).image_sha256 != own.scene(seen).image_sha256
    assert learnt_scenes(run, other, "test") == [(seen, seen)]


def test_a_copy_of_a_copy_says_where_it_learnt(
    north: Dataset, south: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It learnt nothing from the study that it was copied to, and its classes keep their first names."""
    first = transfer_run(add_run(north, dtype="uint8"), south, "test", class_map=("Field=Vegetation", "Wood=Rock"))
    assert first.card.transferred_from is not None
    capsys.readouterr()
    west = build_study(tmp_path / "west", split=Split(("c/1", "c/2"), ("b/1",), ("a/1", "b/2"), "random", seed=1))
    second = transfer_run(first, west, "test", class_map=("Vegetation=Wood", "Rock=Field"))
    assert "not all data that it learnt from are at hand" in " ".join(capsys.readouterr().err.split())
    expected = {"Field": "Wood", "Wood": "Field", "Water": "Water"}
    assert second.card.transferred_from == dataclasses.replace(first.card.transferred_from, classes=expected)


def test_what_it_cannot_read_is_refused(north: Dataset, south: Dataset) -> None:
    """Other bands and other pixels would be predicted without a complaint."""
    maps = ("Field=Bare", "Wood=Rock")
    for change, text in (
        ({"bands": 4, "mean": (1.0,) * 4, "std": (1.0,) * 4}, "reads 3 bands, the scenes of .* have 4"),
        ({"dtype": "uint16"}, "is normalised for uint8 pixels, the scenes of .* hold uint16"),
    ):
        with pytest.raises(ModelError, match=text):
            transfer_run(
                add_run(north, f"r{text[:2]}", dtype="uint8"),
                dataclasses.replace(south, **change),
                "test",
                class_map=maps,
            )  # type: ignore[arg-type]


def test_runs_from_elsewhere_stand_beside_the_own_ones_when_allowed(north: Dataset, tmp_path: Path) -> None:
    """Unlike training scenes are refused by default, and the remedy works."""
    run = add_run(north, dtype="uint8")
    east = build_study(tmp_path / "east", split=SPLIT)
    scenes = [dataclasses.replace(scene, image_sha256=f"{n:064x}") for n, scene in enumerate(east.scenes)]
    write_dataset(dataclasses.replace(east, scenes=tuple(scenes)), east.folder)
    add_run(read_dataset(east.folder), "linknet-s1", seed=1, dtype="uint8")
    assert main(["evaluate", str(east.folder), *FLAGS]) == 0
    assert evaluate_on(run, east.folder) == 0
    assert main(["compare", str(east.folder)]) == 2
    assert main(["compare", str(east.folder), "--allow-unlike"]) == 0


def test_a_class_map_without_another_study_is_refused(north: Dataset) -> None:
    """It has nothing to map to."""
    run = add_run(north)
    assert main(["evaluate", str(run.folder), "--class-map", "a=b", *FLAGS]) == 2


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        ("class 1", r"^--class-map 'class 1': expected FROM=CLASS, such as \"class 0=Urban land\"\.$"),
        ("class 7=Water", r"'class 7' is not a class of 'default'\. Its classes are class 0, class 1, class 2\."),
        ("3=Water", r"'3' is not a class of 'default'"),
        ("0=Sea", r"'Sea' is not a class of 'deepglobe'"),
    ],
)
def test_a_wrong_pair_is_named(pair: str, text: str) -> None:
    """With what was expected."""
    with pytest.raises(ConfigError, match=text):
        read_class_map([pair], DEEPGLOBE, default_legend(3))


def test_a_class_with_two_meanings_is_refused() -> None:
    """The same meaning twice is none."""
    assert read_class_map(["0=4", "class 0=Water"], DEEPGLOBE, default_legend(3)).classes == {0: 4}
    with pytest.raises(ConfigError, match=r"class 0 is given two classes\. Give it one"):
        read_class_map(["0=4", "class 0=Rangeland"], DEEPGLOBE, default_legend(3))


def test_a_class_map_has_one_grammar() -> None:
    """Names, beginnings, numbers and colours, several at once, of another legend as of masks."""
    other = default_legend(3)
    colour = "#{:02x}{:02X}{:02x}".format(*other.classes[2].colour)
    assert read_class_map(["0+class 1=Wat", f"{colour}=Forest"], DEEPGLOBE, other).classes == {0: 4, 1: 4, 2: 3}
    masks = read_class_map(["0+1=Wat", f"{colour}=Forest", "Rangeland=Barren"], DEEPGLOBE)
    assert (masks.numbers, masks.colours, masks.classes) == ({0: 4, 1: 4}, {other.classes[2].colour: 3}, {2: 5})


def test_summed_outputs_sum_probabilities() -> None:
    """After a softmax a merged class has the sum of its parts, the others what they had."""
    logits = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    merged = SummedOutputs(nn.Identity(), (3, 1, 3, 0))(logits).softmax(dim=1)
    probs = logits.softmax(dim=1)
    expected = torch.stack([probs[:, 0] + probs[:, 2], probs[:, 1], probs[:, 3]], dim=1)
    torch.testing.assert_close(merged, expected)


def test_names_match_in_either_language(north: Dataset) -> None:
    """A legend may have Russian names beside."""
    russian = Legend("r", tuple(LegendClass(i, f"c{i}", (i, 9, 9), name_ru=n) for i, n in enumerate(("Лес", "wood"))))
    run = add_run(north, outputs=[2])
    assert LEGEND.names[2] == "Wood"
    assert match_outputs(run, russian) == (1,)
