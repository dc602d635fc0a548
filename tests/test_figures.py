"""The PNG pictures: which are drawn, under which names."""

from pathlib import Path

from fake_study import build_study

from levelground.figures import draw_figures, file_name


def test_pictures_have_the_names_of_the_design(tmp_path: Path) -> None:
    """One confusion matrix a run, one comparison a scene, and the plots over all runs."""
    study = build_study(tmp_path, archs=["unet", "fpn"], seeds=1, scenes=["119"], size=48)
    written = draw_figures(study.record, tmp_path, tmp_path / "figures", scenes=study)
    assert {path.name for path in written} == {
        "train_loss_epochs.png", "train_loss_steps.png", "val_iou_epochs.png", "val_iou_steps.png", "forest.png",
        "per_class_iou.png", "pareto.png", "dataset_samples.png", "confusion_unet-resnet18-s0.png",
        "confusion_fpn-resnet18-s0.png", "comparison_119.png",
    }  # fmt: skip
    assert all(path.stat().st_size > 1000 for path in written)


def test_file_names_never_leave_the_folder() -> None:
    """Ids with slashes, dots and line breaks become one plain name each, and unlike ids unlike names."""
    names = [file_name(f"comparison_{scene}") for scene in ("a/b", "a-b", "../x", "a\nb", "Поле 1")]
    assert len(set(names)) == 5
    assert not any("/" in name or "\n" in name or name.startswith(".") for name in names)
