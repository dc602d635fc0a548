"""Generated scenes: what they promise to those who train and test on them."""

import dataclasses
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from levelground.console import progress_bar
from levelground.errors import ConfigError, SceneError
from levelground.imagery.legend import DEEPGLOBE, LabelMap, decode_colours
from levelground.synthetic.noise import fractal_noise, nearest_point, smooth_noise, smoothstep, stream
from levelground.synthetic.scenes import add_trees, cloud_cover, generate_scene, write_scenes
from levelground.synthetic.terrain import (
    AGRICULTURE,
    BARREN,
    FOREST,
    KINDS,
    RANGELAND,
    UNKNOWN,
    URBAN,
    WATER,
    boundary,
    draw_labels,
    lay_ground,
    scene_kind,
)
from levelground.synthetic.textures import draw_palette, draw_stages

SIZE = 192


@pytest.fixture(scope="module")
def dozen() -> list[tuple[NDArray[np.uint8], LabelMap]]:
    """One deck of scenes, at the demo's size."""
    return [generate_scene(5, index, 512) for index in range(12)]


@pytest.fixture
def other_threads() -> Iterator[Callable[[int], None]]:
    """Set OpenCV's threads, and set them back."""
    before = cv2.getNumThreads()
    yield cv2.setNumThreads
    cv2.setNumThreads(before)


def files(folder: Path) -> dict[str, bytes]:
    """Every file in a folder with its bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_scene_is_a_pure_function_of_its_numbers() -> None:
    """Making other scenes in between, in any order, changes no pixel."""
    first = generate_scene(1, 4, SIZE)
    generate_scene(2, 7, 64)
    again = generate_scene(1, 4, SIZE)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])


def test_threads_change_no_pixel(other_threads: Callable[[int], None]) -> None:
    """OpenCV gives the same scenes on one thread and on four."""
    for index in range(3):
        other_threads(1)
        one = generate_scene(8, index, 512)
        other_threads(4)
        four = generate_scene(8, index, 512)
        assert np.array_equal(one[0], four[0]) and np.array_equal(one[1], four[1])


@pytest.mark.parametrize("numbers", [(2, 4), (1, 5), (2**64 - 1, 4)])
def test_another_seed_or_number_gives_another_scene(numbers: tuple[int, int]) -> None:
    """Scenes of unlike numbers are unlike, in picture and in labels; the largest seed works."""
    image, labels = generate_scene(1, 4, SIZE)
    other_image, other_labels = generate_scene(*numbers, SIZE)
    assert (image != other_image).mean() > 0.9
    assert (labels != other_labels).mean() > 0.05


@pytest.mark.parametrize("size", [64, 97, 256, 700])
def test_any_size_works(size: int) -> None:
    """Image and labels have the size asked for, odd ones too, and hold bytes."""
    image, labels = generate_scene(0, 3, size)
    assert (image.shape, image.dtype) == ((size, size, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((size, size), np.uint8)
    assert labels.max() < DEEPGLOBE.n_classes


def test_class_indices_are_those_of_the_legend() -> None:
    """The painter's names stand for the classes that the legend gives them."""
    names = {name.split()[0].lower(): index for index, name in enumerate(DEEPGLOBE.names)}
    mine = (URBAN, AGRICULTURE, RANGELAND, FOREST, WATER, BARREN, UNKNOWN)
    assert mine == tuple(
        names[n] for n in ("urban", "agriculture", "rangeland", "forest", "water", "barren", "unknown")
    )


def test_twelve_scenes_hold_every_class_often(dozen: list[tuple[NDArray[np.uint8], LabelMap]]) -> None:
    """Each counted class lies in at least six of twelve scenes, unknown in one or two."""
    pixels = np.array([np.bincount(labels.ravel(), minlength=7) for _, labels in dozen])
    scenes = (pixels > 200).sum(axis=0)
    assert scenes[:UNKNOWN].min() >= 6
    assert 1 <= scenes[UNKNOWN] <= 2


def test_shares_are_roughly_deepglobes() -> None:
    """Agriculture about half, water a few per cent, unknown below one; two decks of small scenes."""
    pixels = sum(np.bincount(generate_scene(3, i, 320)[1].ravel(), minlength=7) for i in range(24))
    share = pixels / pixels.sum()
    low = [0.06, 0.40, 0.06, 0.06, 0.02, 0.04, 0.0005]
    high = [0.18, 0.62, 0.20, 0.20, 0.09, 0.16, 0.012]
    assert np.all(share > low) and np.all(share < high), share.round(3)


def test_every_twelve_scenes_hold_each_kind_once() -> None:
    """The deck of kinds is shuffled by seed and dealt out whole."""
    for seed in (0, 1):
        for deck in (0, 12):
            assert {scene_kind(seed, deck + i) for i in range(12)} == set(KINDS)
    assert [scene_kind(0, i) for i in range(12)] != [scene_kind(1, i) for i in range(12)]


def test_pictures_are_exposed_like_photographs(dozen: list[tuple[NDArray[np.uint8], LabelMap]]) -> None:
    """No scene is black, burnt or flat; real DeepGlobe scenes have means of 49–120 and spreads of 10–43."""
    for image, labels in dozen:
        seen = image[labels != UNKNOWN]
        assert np.all(seen.mean(axis=0) > 30) and np.all(seen.mean(axis=0) < 190)
        assert seen.std(axis=0).min() > 8
        assert (seen == 255).all(axis=1).mean() < 0.02


def test_scenes_differ_in_light(dozen: list[tuple[NDArray[np.uint8], LabelMap]]) -> None:
    """Mean brightness and colour balance shift between scenes."""
    means = np.array([image.reshape(-1, 3).mean(axis=0) for image, _ in dozen])
    assert means.mean(axis=1).std() > 6
    assert (means[:, 0] - means[:, 2]).std() > 4


def test_labels_are_coarser_than_the_ground() -> None:
    """An annotator's map agrees with the ground mostly, not wholly, and has fewer areas and shorter borders."""
    agreement, areas, borders = [], [], []
    for index in range(12):
        ground = lay_ground(5, index, 384)
        labels = draw_labels(5, index, ground, None)
        agreement.append((labels == ground.cover).mean())
        areas.append([_n_areas(labels), _n_areas(ground.cover)])
        borders.append([boundary(labels.astype(np.int32)).sum(), boundary(ground.cover.astype(np.int32)).sum()])
    assert 0.90 < np.mean(agreement) < 0.99
    drawn, real = np.sum(areas, axis=0)
    assert drawn < 0.7 * real
    short, long = np.sum(borders, axis=0)
    assert short < 0.95 * long


def test_who_knows_the_ground_still_scores_below_97() -> None:
    """The annotator's habits cap mean IoU below .97 (and above .88: labels are coarse, not wrong)."""
    matrix = np.zeros((6, 6), np.int64)
    for index in range(12):
        ground = lay_ground(0, index, 512)
        labels = draw_labels(0, index, ground, None)
        pairs = labels.astype(np.int64) * 6 + ground.cover
        matrix += np.bincount(pairs.ravel(), minlength=36).reshape(6, 6)
    iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
    assert 0.88 < iou.mean() < 0.97


def _n_areas(labels: LabelMap) -> int:
    return sum(ndimage.label(labels == index)[1] for index in np.unique(labels))


def test_nothing_tiny_is_drawn(dozen: list[tuple[NDArray[np.uint8], LabelMap]]) -> None:
    """Hardly an area lies below the smallest that annotators draw; polygons may leave a sliver here and there."""
    sizes = []
    for _, labels in dozen:
        for index in np.unique(labels):
            parts, n = ndimage.label(labels == index)
            sizes += list(np.bincount(parts.ravel())[1:]) if n else []
    assert np.mean(np.array(sizes) < 150) < 0.15


def test_a_cloud_is_bright_and_unknown(dozen: list[tuple[NDArray[np.uint8], LabelMap]]) -> None:
    """Unknown pixels are brighter than the rest of their scene, and scenes without a cloud have none."""
    for index, (image, labels) in enumerate(dozen):
        hidden = labels == UNKNOWN
        assert hidden.any() <= scene_kind(5, index).cloud
        if hidden.any():
            assert image[hidden].mean() > image[~hidden].mean() + 30


def test_the_thick_of_a_cloud_is_unknown() -> None:
    """Where a cloud hides the ground, the labels say so."""
    index = next(i for i in range(12) if scene_kind(0, i).cloud)
    labels = generate_scene(0, index, 512)[1]
    cloud = cloud_cover(0, index, 512)
    assert (labels[cloud > 0.95] == UNKNOWN).mean() > 0.9
    assert (labels[cloud < 0.02] == UNKNOWN).mean() < 0.01


def test_colour_alone_tells_little(dozen: list[tuple[NDArray[np.uint8], LabelMap]]) -> None:
    """The best guess from a pixel's colour, scored on the pixels it was learnt from, stays below .45 mIoU."""
    counts = np.zeros((4096, UNKNOWN), np.int64)
    for image, labels in dozen:
        code = (image // 16).astype(np.int64) @ np.array([256, 16, 1])
        known = labels != UNKNOWN
        counts += np.bincount(code[known] * UNKNOWN + labels[known], minlength=counts.size).reshape(counts.shape)
    guess = counts.argmax(axis=1)
    matrix = np.stack([counts[guess == index].sum(axis=0) for index in range(UNKNOWN)], axis=1)
    iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
    assert iou.mean() < 0.45
    assert max(iou[RANGELAND], iou[BARREN]) < 0.5


def test_rangeland_fields_and_bare_ground_share_colours(dozen: list[tuple[NDArray[np.uint8], LabelMap]]) -> None:
    """Within single scenes, their mean colours often lie closer together than one class spreads."""
    close = []
    for image, labels in dozen:
        for a, b in ((AGRICULTURE, RANGELAND), (RANGELAND, BARREN), (AGRICULTURE, BARREN)):
            one, two = image[labels == a].astype(float), image[labels == b].astype(float)
            if min(len(one), len(two)) > 500:
                gap = np.abs(one.mean(axis=0) - two.mean(axis=0)).mean()
                close.append(gap < max(one.std(axis=0).mean(), two.std(axis=0).mean()))
    assert len(close) > 10 and np.mean(close) > 0.5


def test_scenes_do_not_touch(dozen: list[tuple[NDArray[np.uint8], LabelMap]]) -> None:
    """No border of a scene goes on in another: real touching scenes agree within a few levels."""
    images = [image.astype(np.int16) for image, _ in dozen]
    for a in range(12):
        for b in range(12):
            if a != b:
                assert np.abs(images[a][:, -1] - images[b][:, 0]).mean() > 5
                assert np.abs(images[a][-1] - images[b][0]).mean() > 5


def test_parcels_cover_the_scene_once() -> None:
    """Every pixel has a parcel, every parcel a pixel, and positions inside run from 0 to 1."""
    parcels = lay_ground(4, 2, 300).parcels
    assert np.array_equal(np.unique(parcels.parcel), np.arange(parcels.n))
    assert parcels.along.min() >= 0 and parcels.along.max() <= 1.001
    assert parcels.across.min() >= 0 and parcels.across.max() <= 1.001
    assert parcels.length_px.min() > 0 and parcels.width_px.min() > 0


def test_a_scene_shows_several_stages_of_growth() -> None:
    """Fields of one scene differ in what grows on them."""
    ground = lay_ground(4, 2, 512)
    stages = draw_stages(4, 2, ground, draw_palette(4, 2))
    fields = np.unique(ground.parcels.parcel[ground.cover == AGRICULTURE])
    assert len(np.unique(stages[fields])) >= 4


def test_nothing_grows_on_open_water() -> None:
    """A scene that is all water gets no tree."""
    ground = lay_ground(4, 2, 96)
    flooded = dataclasses.replace(ground, cover=np.full_like(ground.cover, WATER))
    palette = draw_palette(4, 2)
    picture = np.full((96, 96, 3), 50, np.float32)
    stages = draw_stages(4, 2, flooded, palette)
    add_trees(4, 2, picture, flooded, palette, stages, np.zeros((96, 96), np.bool_))
    assert np.all(picture == 50)


def test_noise_has_its_scale_and_spread() -> None:
    """Smooth noise has mean 0 and spread 1, and changes over its scale, not within."""
    for scale in (2.0, 9.0, 40.0):
        fields = np.stack([smooth_noise(stream(1, i, 0), 256, scale) for i in range(20)])
        assert abs(fields.mean()) < 0.3 and 0.75 < fields.std() < 1.25
        near = np.abs(np.diff(fields, axis=1)).mean()
        assert near < 1.6 / scale
    assert fractal_noise(stream(1, 2, 3), 100, 30, 4).shape == (100, 100)


def test_streams_of_unlike_layers_are_unlike() -> None:
    """Layers of one scene draw unlike numbers; the same layer draws the same."""
    draws = [stream(1, 2, layer).random() for layer in (0, 1, 0)]
    assert draws[0] == draws[2] != draws[1]


def test_nearest_point_agrees_with_a_tree() -> None:
    """The fast distance transform finds the point that scipy's exact one finds, but for near ties."""
    points = np.float32([[3, 4], [30, 8], [16, 33], [45, 45], [-5, 90]])
    found = nearest_point(points, 50)
    rows, cols = np.mgrid[:50, :50]
    distance = np.hypot(rows[..., None] - points[:4, 0], cols[..., None] - points[:4, 1])
    chosen = np.take_along_axis(distance, found[..., None].astype(np.intp), axis=2)[..., 0]
    assert (chosen - distance.min(axis=2)).max() < 2


def test_smoothstep_runs_either_way() -> None:
    """It rises between its ends, and falls where they are given the other way round."""
    field = np.float32([[0, 1, 2, 3, 4]])
    assert smoothstep(field, 1, 3).tolist() == [[0, 0, 0.5, 1, 1]]
    assert smoothstep(field, 3, 1).tolist() == [[1, 1, 0.5, 0, 0]]


def test_written_scenes_decode_to_what_was_generated(tmp_path: Path) -> None:
    """Masks come back exactly through the legend, pictures closely through the JPEG."""
    assert write_scenes(tmp_path / "scenes", n=2, size=SIZE, seed=9) == 2
    assert sorted(files(tmp_path / "scenes")) == ["000_mask.png", "000_sat.jpg", "001_mask.png", "001_sat.jpg"]
    for index in range(2):
        image, labels = generate_scene(9, index, SIZE)
        with Image.open(tmp_path / f"scenes/00{index}_mask.png") as mask:
            assert mask.mode == "RGB"
            assert np.array_equal(decode_colours(np.array(mask), DEEPGLOBE, source="mask"), labels)
        with Image.open(tmp_path / f"scenes/00{index}_sat.jpg") as photo:
            assert np.abs(np.array(photo).astype(int) - image).mean() < 6


def test_the_comment_in_a_picture_disturbs_no_decoder(tmp_path: Path) -> None:
    """OpenCV and simplejpeg read the stamped file as Pillow does."""
    import simplejpeg

    write_scenes(tmp_path, n=1, size=SIZE, seed=9)
    data = (tmp_path / "000_sat.jpg").read_bytes()
    with Image.open(io.BytesIO(data)) as photo:
        pillow = np.array(photo).astype(int)
    opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(simplejpeg.decode_jpeg(data) - pillow).mean() < 1
    assert np.abs(opencv - pillow).mean() < 1


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    """A second run writes nothing; a longer one adds; files keep their bytes."""
    write_scenes(tmp_path, n=2, size=64, seed=1)
    before = files(tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert write_scenes(tmp_path, n=2, size=64, seed=1) == 0
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times
    assert write_scenes(tmp_path, n=3, size=64, seed=1) == 1
    assert {name: data for name, data in files(tmp_path).items() if name in before} == before


def test_other_numbers_make_the_folder_anew(tmp_path: Path) -> None:
    """Another seed or size replaces the pairs, and pairs beyond the number asked for go."""
    write_scenes(tmp_path / "changed", n=3, size=64, seed=1)
    write_scenes(tmp_path / "changed", n=2, size=80, seed=2)
    write_scenes(tmp_path / "fresh", n=2, size=80, seed=2)
    assert files(tmp_path / "changed") == files(tmp_path / "fresh")


def test_half_a_pair_is_completed(tmp_path: Path) -> None:
    """After a stop between the two files of a scene, the next run writes the scene whole."""
    write_scenes(tmp_path, n=1, size=64, seed=1)
    whole = files(tmp_path)
    (tmp_path / "000_mask.png").unlink()
    assert write_scenes(tmp_path, n=1, size=64, seed=1) == 1
    assert files(tmp_path) == whole


@pytest.mark.parametrize("name", ["000_sat.jpg", "000_mask.png"])
def test_a_file_of_someone_else_is_not_overwritten(tmp_path: Path, name: str) -> None:
    """A file that carries no stamp stops the run, before anything is written."""
    Image.new("RGB", (8, 8)).save(tmp_path / name)
    before = files(tmp_path)
    with pytest.raises(SceneError, match=rf"{name}: exists and is not a generated scene; .* Choose another folder\."):
        write_scenes(tmp_path, n=1, size=64, seed=1)
    assert files(tmp_path) == before


def test_files_of_someone_else_beyond_the_last_scene_stay(tmp_path: Path) -> None:
    """Only generated scenes are removed; real ones, and files that are no image, stay."""
    Image.new("RGB", (8, 8)).save(tmp_path / "855_mask.png")
    (tmp_path / "900_mask.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("mine")
    write_scenes(tmp_path, n=1, size=64, seed=1)
    assert {"855_mask.png", "900_mask.png", "notes.txt"} < set(files(tmp_path))


def test_a_bar_given_is_moved(tmp_path: Path) -> None:
    """Scenes that are there count as done on the caller's bar."""
    write_scenes(tmp_path, n=1, size=64, seed=1)
    with progress_bar("scenes", 2) as bar:
        assert write_scenes(tmp_path, n=2, size=64, seed=1, progress=bar) == 1


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((-1, 0, 64), r"seed is -1, expected 0 to 2\*\*64 - 1\. Give another seed\."),
        ((2**64, 0, 64), r"seed is 18446744073709551616, expected"),
        ((0, -1, 64), r"scene number -1 or a count of 0 scenes is too small\. Give at least 1 scene\."),
        ((0, 0, 63), r"a scene of 63 pixels a side, expected 64 to 8192\. Give another size\."),
        ((0, 0, 8193), r"a scene of 8193 pixels a side"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, numbers: tuple[int, int, int], text: str) -> None:
    """Seed, number and size are checked before any work, in both functions."""
    seed, index, size = numbers
    with pytest.raises(ConfigError, match=text):
        generate_scene(seed, index, size)
    with pytest.raises(ConfigError, match=text):
        write_scenes(tmp_path / "none", n=index + 1, size=size, seed=seed)
    assert not (tmp_path / "none").exists()
