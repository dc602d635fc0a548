"""The pictures: which are drawn, in which formats, under which names, and what is in them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.fake_study import FakeStudy, build_fake_study, with_classes
from PIL import Image

from levelground.history import HistoryLine, append_history
from levelground.imagery.legend import default_legend
from levelground.reporting.figures import GAP_PX, TITLE_PX, _picture_grid, draw_figures, file_name

PLOTS = {
    "train_loss_epochs.png", "train_loss_steps.png", "val_iou_epochs.png", "val_iou_steps.png",
    "val_loss_epochs.png", "val_loss_steps.png", "forest.png",
    "per_class_iou.png", "pareto.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> FakeStudy:
    """Two runs and one scene."""
    folder = tmp_path_factory.mktemp("study")
    return build_fake_study(folder, archs={"unet": 0.2, "fpn": 0.3}, seeds=1, scenes=["119"], size=48)


def test_pictures_have_the_names_of_the_design(study: FakeStudy, tmp_path: Path) -> None:
    """One confusion matrix a run, one comparison a scene, samples, and the plots over all runs."""
    written = draw_figures(study.comparison, study.folder, tmp_path, scenes=study)
    own = {"dataset_samples.png", "confusion_unet-resnet18-s0.png", "confusion_fpn-resnet18-s0.png"}
    names = {path.relative_to(tmp_path).as_posix() for path in written}
    assert names == PLOTS | own | {"scenes/comparison_119.png"}


def test_comparison_shows_truth_predictions_and_errors(study: FakeStudy, tmp_path: Path) -> None:
    """The picture of a scene holds the legend's colours and both colours of the error map, two rows for two runs."""
    draw_figures(study.comparison, study.folder, tmp_path, scenes=study)
    with Image.open(tmp_path / "scenes" / "comparison_119.png") as image:
        picture = np.asarray(image.convert("RGB")).reshape(-1, 3)
    seen = {tuple(colour) for colour in np.unique(picture, axis=0).tolist()}
    assert {(255, 255, 0), (255, 0, 255), (0, 0, 255), (0, 255, 0), (150, 30, 20), (236, 236, 232)} <= seen


def test_pictures_are_shown_pixel_for_pixel_and_upright(tmp_path: Path) -> None:
    """Each pixel of a scene is one pixel of the PNG, in its place below its title."""
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    figure = _picture_grid([[("one", picture), ("two", picture[::-1])]], default_legend(2))
    figure.savefig(tmp_path / "a.png")
    shown = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    for left, expected in ((GAP_PX, picture), (2 * GAP_PX + 90, picture[::-1])):
        np.testing.assert_array_equal(shown[TITLE_PX : TITLE_PX + 60, left : left + 90], expected)


def test_each_format_shows_the_same_in_the_same_bytes(study: FakeStudy, tmp_path: Path) -> None:
    """PNG, SVG and PDF of each picture; drawn again they are the same files, and none holds a date."""
    first, second = (
        draw_figures(study.comparison, study.folder, tmp_path / name, scenes=study, formats=("svg", "pdf", "png"))
        for name in ("first", "second")
    )
    assert {path.suffix for path in first} == {".svg", ".pdf", ".png"} and len(first) == 3 * 13
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    forest = (tmp_path / "first" / "forest.svg").read_text(encoding="utf-8")
    assert "<path" in forest and "date>" not in forest
    assert b"Date" not in (tmp_path / "first" / "forest.pdf").read_bytes()
    with Image.open(tmp_path / "first" / "scenes" / "comparison_119.png") as picture:
        width, height = picture.size  # 120 pixels an inch, of which a PDF has 72 points and an SVG too
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+)", (tmp_path / "first/scenes/comparison_119.pdf").read_bytes())
    assert box is not None
    assert [float(side) for side in box.groups()] == pytest.approx([0.6 * width, 0.6 * height])


def test_pictures_that_are_not_drawn_again_are_removed(study: FakeStudy, tmp_path: Path) -> None:
    """Old pictures would show another comparison; one that somebody changed is theirs, and stays."""
    bare = tmp_path / "elsewhere"
    draw_figures(study.comparison, bare, tmp_path, formats=("svg", "png"))
    (tmp_path / "forest.png").write_bytes(b"my own")
    draw_figures(study.comparison, bare, tmp_path, formats=("svg",))
    assert [path.name for path in tmp_path.glob("*.png")] == ["forest.png"]
    draw_figures(study.comparison, bare, tmp_path, formats=())
    assert (tmp_path / "forest.svg").exists()


def test_without_scenes_and_histories_the_rest_is_drawn(study: FakeStudy, tmp_path: Path) -> None:
    """A comparison beside no data set and no run folders still gets its plots and matrices."""
    written = {path.name for path in draw_figures(study.comparison, tmp_path / "elsewhere", tmp_path)}
    assert written == {
        "forest.png", "per_class_iou.png", "pareto.png", "confusion_unet-resnet18-s0.png",
        "confusion_fpn-resnet18-s0.png",
    }  # fmt: skip


def test_the_origins_iou_gets_axes_of_its_own(tmp_path: Path) -> None:
    """An adopted history's IoU over images is another metric: it is drawn below, not among the others."""
    study = build_fake_study(tmp_path, archs={"unet": 0.2}, seeds=1, scenes=["119"], size=48, adopted="fpn")
    before = _height(study, "val_iou_epochs")
    lines = [HistoryLine(kind="val", step=4 * n, epoch=n, val_image_iou=0.1 * n, train_loss=1.0) for n in (1, 2)]
    append_history(tmp_path / "runs" / "fpn", lines)
    assert _height(study, "val_iou_epochs") == 2 * before


def test_losses_of_other_definitions_get_axes_of_their_own(tmp_path: Path) -> None:
    """An adopted history's loss by validation, and batch by batch, below the cross-entropy of the runs."""
    study = build_fake_study(tmp_path, archs={"unet": 0.2}, seeds=1, scenes=["119"], size=48, adopted="fpn")
    before = _height(study, "val_loss_steps")
    lines = [HistoryLine(kind="val", step=4, epoch=1, val_own_loss=0.1)]
    lines += [HistoryLine(kind="val_image", step=4, epoch=1, image=n, val_own_loss=0.1 * n) for n in (1, 2)]
    append_history(tmp_path / "runs" / "fpn", lines)
    assert _height(study, "val_loss_steps") == 3 * before


def _height(study: FakeStudy, name: str) -> int:
    draw_figures(study.comparison, study.folder, study.folder / "figures", scenes=study)
    with Image.open(study.folder / "figures" / f"{name}.png") as picture:
        return picture.height


def test_hostile_labels_are_drawn_as_they_are(study: FakeStudy, tmp_path: Path) -> None:
    """Dollar signs and line breaks in names are text, not formulas."""
    first, second = study.comparison.runs
    hostile = replace(study.comparison, runs=(replace(first, label="_$\\nothing{$\n_x"), second))
    written = draw_figures(hostile, study.folder, tmp_path, scenes=study)
    assert len(written) == 13


def test_samples_are_six_scenes_at_most(study: FakeStudy, tmp_path: Path) -> None:
    """The picture of a data set of a hundred scenes is not a hundred scenes wide."""
    widths = []
    for n in (5, 6, 7):
        row = study.comparison.scenes[0]
        many = replace(
            study.comparison,
            scenes=tuple(replace(row, id=f"s{k}") for k in range(n)),
            runs=tuple(replace(run, scene_miou=(0.5,) * n) for run in study.comparison.runs),
        )
        opened = {scene.id: study.scenes["119"] for scene in many.scenes}
        draw_figures(many, tmp_path / "none", tmp_path, scenes=FakeStudy(study.folder, many, opened))
        with Image.open(tmp_path / "dataset_samples.png") as picture:
            widths.append(picture.width)
    assert widths[0] < widths[1] == widths[2]


def test_file_names_never_leave_the_folder() -> None:
    """Ids with slashes, dots and line breaks become one plain name each, and unlike ids unlike names."""
    names = [file_name(f"comparison_{scene}") for scene in ("a/b", "a-b", "../x", "a\nb", "Поле 1", "x" * 300)]
    assert len(set(names)) == 6
    assert not any("/" in name or "\n" in name or name.startswith(".") or len(name) > 130 for name in names)


def test_long_legends_show_the_classes_with_most_pixels(study: FakeStudy, tmp_path: Path) -> None:
    """With 255 classes the matrices hold the thirty largest, not a picture of twenty thousand pixels."""
    legend = default_legend(255)
    counts = np.zeros((255, 255), int)
    counts[:7, :7] = study.comparison.runs[0].counts
    long = with_classes(study.comparison, legend, counts.tolist())
    draw_figures(long, study.folder, tmp_path, scenes=FakeStudy(study.folder, long, {}))
    with Image.open(tmp_path / "confusion_unet-resnet18-s0.png") as picture:
        assert picture.height < 1000
