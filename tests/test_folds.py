"""Folds: whole groups, like class shares, every scene a test scene once, and a data set for each fold."""

from pathlib import Path

import numpy as np
import pytest
from builders.scene_files import kaggle_pair, noise, random_labels
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from levelground.config import PrepareOptions
from levelground.datasets.dataset import Dataset, read_dataset, write_dataset
from levelground.datasets.folds import draw_folds, fold_folder, fold_splits, fold_unevenness, joined_split, read_folds
from levelground.datasets.prepare import prepare_dataset
from levelground.datasets.splits import Split, separated_groups
from levelground.errors import ConfigError, DataError, RecordError, SplitError
from levelground.imagery.geotiff import RasterInfo, write_raster


def fold_sums(content: NDArray[np.int64], fold_of: NDArray[np.intp], n_folds: int) -> NDArray[np.int64]:
    """What each fold holds."""
    sums = np.zeros((n_folds, content.shape[1]), np.int64)
    np.add.at(sums, fold_of, content)
    return sums


def group_contents(seed: int, *, n_groups: int, n_classes: int) -> NDArray[np.int64]:
    """Groups of one to four scenes of one class each, some classes rare: what scikit-learn can split too."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, n_groups)
    shares = rng.dirichlet(np.full(n_classes, 0.7), n_groups)
    classes = np.stack([rng.multinomial(size, share) for size, share in zip(sizes, shares, strict=True)])
    return np.column_stack((classes, sizes))


@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")  # scikit-learn's, of a rare class
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("n_groups", "n_folds"), [(10, 5), (24, 5), (60, 3), (60, 10)])
def test_folds_are_as_even_as_scikit_learns(seed: int, n_groups: int, n_folds: int) -> None:
    """No less even than StratifiedGroupKFold, and like numbers of scenes."""
    content = group_contents(seed, n_groups=n_groups, n_classes=4)
    group = np.repeat(np.arange(n_groups), content[:, -1])
    classes = np.concatenate([np.repeat(np.arange(4), row[:-1]) for row in content])
    theirs = np.empty(n_groups, np.intp)
    reference = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(reference.split(classes, classes, group)):
        theirs[np.unique(group[test])] = number
    ours = draw_folds(content, n_folds, seed=seed)
    mine, other = (fold_sums(content, fold_of, n_folds) for fold_of in (ours, theirs))
    assert fold_unevenness(mine) <= fold_unevenness(other)
    assert mine[:, -1].min() >= 1 and mine[:, -1].max() - mine[:, -1].min() <= content[:, -1].max() + 1


@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), n_folds=st.integers(2, 6), more=st.integers(1, 12))
def test_every_scene_is_tested_once_and_no_group_crosses(
    data: st.DataObject, seed: int, n_folds: int, more: int
) -> None:
    """Folds partition the scenes; each fold's three sets partition them too; the order of scenes changes nothing."""
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=2 * n_folds + more, max_size=2 * n_folds + more))
    groups = {f"{g}/{k}": f"g{g}" for g, size in enumerate(sizes) for k in range(size)}
    pixels = {scene: data.draw(st.tuples(st.integers(0, 9), st.integers(0, 9))) for scene in groups}
    folds = fold_splits(groups, pixels, n_folds=n_folds, seed=seed)
    assert sorted(scene for fold in folds for scene in fold.test) == sorted(groups)
    for fold in folds:
        assert sorted((*fold.train, *fold.val, *fold.test)) == sorted(groups)
        assert separated_groups(fold.sets, groups) == {}
    assert separated_groups(joined_split(folds).sets, groups) == {}
    assert fold_splits(dict(sorted(groups.items(), reverse=True)), pixels, n_folds=n_folds, seed=seed) == folds


def test_a_class_is_not_left_to_one_fold() -> None:
    """Two groups with a rare class come to two folds, whatever the shares of the others say."""
    groups = {f"s{number}": f"s{number}" for number in range(10)}
    pixels = {scene: (100, 100 if scene in ("s3", "s8") else 0) for scene in groups}
    for seed in range(5):
        folds = fold_splits(groups, pixels, n_folds=5, seed=seed)
        assert sum(bool({"s3", "s8"} & {*fold.test}) for fold in folds) == 2
        assert all({"s3", "s8"} & {*fold.train} or {"s3", "s8"} & {*fold.val} for fold in folds)


def test_too_few_groups_are_refused() -> None:
    """Fewer groups than folds, and folds that leave nothing to train on."""
    four = {name: name for name in "abcd"}
    with pytest.raises(SplitError, match=r"4 scenes for 5 folds, expected at least 5\. Lower --folds or add scenes\."):
        fold_splits(four, dict.fromkeys(four, (1, 1)), n_folds=5)
    with pytest.raises(SplitError, match=r"fold \d of 2 leaves 1 group of scenes to train and validate"):
        fold_splits({name: name for name in "abc"}, dict.fromkeys("abc", (1, 1)), n_folds=2)


def test_a_split_in_folds_has_a_hash_of_its_own() -> None:
    """Folds are part of the hash, and must be the test scenes."""
    one = Split((), (), ("a", "b"), "folds", folds=(("a",), ("b",)))
    assert one.digest() != Split((), (), ("a", "b"), "folds", folds=(("a", "b"),)).digest()
    with pytest.raises(SplitError, match="the folds are not the test scenes, each once"):
        Split((), (), ("a", "b"), "folds", folds=(("a",),))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six scenes in the Kaggle layout, two of them from one place."""
    folder = tmp_path / "data"
    for number in range(6):
        kaggle_pair(folder, f"{number}", seed=number)
    (folder / "groups.csv").write_text("id,group\n" + "".join(f"{n},{'x' if n < 2 else n}\n" for n in range(6)))
    return folder


def prepare(data: Path, **options: object) -> Dataset:
    """Prepare beside the data, with a cache of its own."""
    base = data.parent
    return prepare_dataset(PrepareOptions(data=data, out=base / "study", cache=base / "cache", **options))  # type: ignore[arg-type]


def test_prepare_writes_a_data_set_for_each_fold(data: Path) -> None:
    """The study's own data set tests every scene; each fold's has its own split and its own band means."""
    dataset = prepare(data, folds=3)
    assert read_dataset(dataset.folder) == dataset
    assert dataset.split.test == tuple("012345") and dataset.split.sizes == (0, 0, 6)
    folds = read_folds(dataset)
    assert len(folds) == 3
    assert tuple(fold.split.test for fold in folds) == dataset.split.folds
    assert all(len(fold.split.train) + len(fold.split.val) == 6 - len(fold.split.test) for fold in folds)
    assert len({fold.mean for fold in folds} | {dataset.mean}) == 4
    assert any({"0", "1"} <= {*fold.split.test} for fold in folds)
    assert prepare(data, folds=3) == dataset


def test_folds_of_another_data_set_are_refused(data: Path) -> None:
    """A fold's record that was exchanged, or is missing, is named."""
    dataset = prepare(data, folds=3)
    first = read_dataset(fold_folder(dataset.folder, 1))
    write_dataset(first, fold_folder(dataset.folder, 2))
    with pytest.raises(RecordError, match=r"2: is not fold 2 of .*study\. Run levelground prepare again\."):
        read_folds(dataset)


@pytest.mark.parametrize("rule", ["origin", "folders"])
def test_folds_and_one_named_test_set_are_refused(data: Path, rule: str) -> None:
    """A split that names a test set contradicts folds."""
    with pytest.raises(ConfigError, match=f"--folds 3: given with --split {rule}, which names one test set. Drop one."):
        prepare(data, folds=3, split=rule)


def test_groups_by_distance_need_places(data: Path) -> None:
    """JPEGs lie nowhere: refused, with what to do; nothing is written."""
    with pytest.raises(DataError, match=r"--groups km:20: scene '0' and 5 more has no place on the map\."):
        prepare(data, folds=3, groups="km:20")
    assert not (data.parent / "study" / "dataset.json").exists()


def test_folds_of_places_keep_near_scenes_together(tmp_path: Path) -> None:
    """Eight GeoTIFF pairs, two every 50 km: four groups of two, none of which crosses folds."""
    for number in range(8):
        folder, x = tmp_path / "data", 500_000 + 50_000 * (number // 2) + 3_000 * (number % 2)
        info = RasterInfo(0, 0, 0, "", None, "EPSG:32633", (10.0, 0.0, x, 0.0, -10.0, 5_500_000.0))
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "masks").mkdir(exist_ok=True)
        write_raster(folder / "images" / f"{number}.tif", noise(24, 24, seed=number), info)
        labels = random_labels(24, 24, seed=number)[..., None] % 3
        write_raster(folder / "masks" / f"{number}.tif", labels, info)
    dataset = prepare(tmp_path / "data", folds=4, groups="km:20")
    assert dataset.groups_from == "places nearer than 20 km"
    assert [scene.group for scene in dataset.scenes] == [str(2 * (number // 2)) for number in range(8)]
    assert sorted(dataset.split.folds) == [("0", "1"), ("2", "3"), ("4", "5"), ("6", "7")]
