"""Parity of two forms of a network: the same tiles through both, and whether one may be used in place of the other."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelground.console import say
from levelground.datasets.dataset import Dataset, read_dataset
from levelground.errors import LevelgroundError, MissingRecordError, ModelError, one_line
from levelground.imagery.image_headers import READ_AS
from levelground.inference.sliding_window import Pixels, TileArithmetic, tile_arithmetic
from levelground.models.model import Model
from levelground.models.spec import ModelSpec, full_scale
from levelground.runs import Run
from levelground.runtime import Runtime
from levelground.tile_geometry import TileGeometry, pad_tile, plan_axis, windows
from levelground.wording import decimal, gettext

MAX_DIFFERENCE = 1e-3
"""Largest difference of a probability that is accepted. Rounding of float32 gives 1e-7 to 1e-4."""

EQUAL_CLASSES = 0.999
"""Smallest share of pixels with the same class that is accepted; equally probable classes differ by rounding."""


@dataclass(frozen=True)
class Tiles:
    """Tiles that both models are run over."""

    stored: NDArray[np.generic]
    """``(N, H, W, C)``, in stored units."""
    source: str
    """Origin of the tiles, for the report."""


N_TILES = 8
"""Tiles compared: two to a scene where there are few scenes."""


def gather_tiles(run: Run, spec: ModelSpec, *, n: int = N_TILES) -> Tiles:
    """Gather tiles of the study's validation scenes, else of its test scenes, else of generated scenes.

    Args:
        run: The run; its study is the folder above ``runs/``.
        spec: Bands, type and tile of the model.
        n: How many tiles.
    Returns:
        Up to ``n`` tiles, spread evenly over the scenes.
    """
    try:
        found = _study_tiles(read_dataset(run.folder.resolve().parent.parent), spec, n)
    except MissingRecordError:
        found = None
    return found or _generated_tiles(spec, n)


def _study_tiles(dataset: Dataset, spec: ModelSpec, n: int) -> Tiles | None:
    """Cut tiles of a data set; ``None`` where it has not the model's bands or type."""
    if dataset.bands != spec.bands or spec.dtype not in (None, dataset.dtype):
        return None
    split = "validation" if dataset.ids("val") else "test"
    tiles = list(cut_tiles(dataset, dataset.ids("val") or dataset.ids("test"), spec.geometry.tile, n))
    return Tiles(np.stack(tiles), f"the study's {split} scenes") if tiles else None


def cut_tiles(dataset: Dataset, names: Sequence[str], side: int, n: int) -> Iterator[NDArray[np.generic]]:
    """Cut tiles of scenes, spread evenly over them.

    Args:
        dataset: The scenes.
        names: Those to cut tiles of.
        side: Side of a tile, px; smaller scenes are padded.
        n: How many tiles.
    Yields:
        Up to ``n`` tiles ``(side, side, C)``, in stored units.
    """
    places = [
        (name, window)
        for name in names
        for scene in (dataset.scene(name),)
        for window in windows(scene.height, scene.width, TileGeometry(side, 0))
    ]
    for k in np.unique(np.linspace(0, len(places) - 1, n).astype(int)) if places else ():
        name, w = places[k]
        pixels = dataset.open(name).pixels
        yield pad_tile(np.asarray(pixels[w.row : w.row + w.height, w.col : w.col + w.width]), side, side)


def _generated_tiles(spec: ModelSpec, n: int) -> Tiles:
    """Cut tiles of generated scenes: three colours, repeated over the bands and stretched to the type's full scale."""
    from levelground.synthetic.scenes import SMALLEST, generate_scene

    side = spec.geometry.tile
    images = [generate_scene(0, index, max(SMALLEST, side))[0][:side, :side] for index in range(n)]
    stored = np.stack(images)[..., np.arange(spec.bands) % 3]
    if spec.dtype not in (None, "uint8"):
        stored = (stored * (full_scale(spec.dtype) / 255)).astype(READ_AS.get(spec.dtype, spec.dtype))
    return Tiles(stored, "generated scenes")


@dataclass(frozen=True)
class Parity:
    """Differences of an exported model from the network it was made of."""

    max_difference: float
    """Largest difference of a probability, over all pixels and classes."""
    mean_difference: float
    equal_classes: float
    """Share of pixels with the same most probable class."""
    tiles: int
    pixels: int
    source: str

    @property
    def holds(self) -> bool:
        """Tell whether the exported model may be used in place of the network."""
        return self.max_difference <= MAX_DIFFERENCE and self.equal_classes >= EQUAL_CLASSES

    def text(self) -> str:
        """Return the report in one line."""
        gap = f"{self.max_difference:.1e}" if self.max_difference else "0"
        return gettext(
            "probabilities differ by %(gap)s at most, %(share)s %% of pixels have the same class (%(tiles)s tiles of "
            "%(source)s)",
            gap=decimal(gap),
            share=decimal(f"{100 * self.equal_classes:.3f}"),
            tiles=self.tiles,
            source=self.source,
        )


EQUAL_ENOUGH = 0.995
"""Smallest share of pixels with the same class that lets another engine run a network: in bfloat16 torch itself is that
far from float32."""

PROOF_PIXELS, MOST_PROOFS = 2**18, 16
"""Pixels, in tiles, that engines are compared on before one is used, and the most tiles."""


def compare_models(model: Model, other: Model, tiles: Tiles, runtime: Runtime) -> Parity:
    """Run two forms of a network over the same tiles.

    Args:
        model: The network, in evaluation mode.
        other: The other form.
        tiles: What to run them over.
        runtime: Device and precision of what torch runs.
    Raises:
        ModelError: The other form makes another number of classes or another size.
    """
    ours, theirs = tile_arithmetic(model, runtime), tile_arithmetic(other, runtime)
    # A network of torch may be converted for the other form just now, and OpenVINO makes networks in one thread only.
    at_once = {model.engine, other.engine} == {"onnx", "openvino"}
    largest, total, equal, values = 0.0, 0.0, 0, 0
    for tile in tiles.stored:
        stored = np.ascontiguousarray(tile[None])
        expected, found = _both(ours, theirs, stored, at_once=at_once)
        if found.shape != expected.shape:
            raise ModelError(
                f"{other.spec.name}: exported, it makes {found.shape}, the network {expected.shape}. "
                "Report this with the run's card."
            )
        difference = np.abs(found - expected)
        # A NaN compares as larger than any limit.
        largest = max(largest, float(np.nan_to_num(difference.max(), nan=np.inf)))
        total += float(difference.sum(dtype=np.float64))
        values += difference.size
        equal += int((found.argmax(1) == expected.argmax(1)).sum())
    pixels = int(np.prod(tiles.stored.shape[:3]))
    return Parity(largest, total / values, equal / pixels, len(tiles.stored), pixels, tiles.source)


def _both(
    ours: TileArithmetic[Any], theirs: TileArithmetic[Any], stored: NDArray[np.generic], *, at_once: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the probabilities of two forms; the first run of a network leaves cores idle, which the other may take."""

    def run(form: TileArithmetic[Any]) -> NDArray[np.float32]:
        return form.to_array(form.probabilities(stored))

    if not at_once:
        return run(ours), run(theirs)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(run, theirs)
        return run(ours), found.result()


def proved(model: Model, some: Callable[[], NDArray[np.generic]], runtime: Runtime) -> Model:
    """Return a model as it may be used: by its own engine where that agrees with its reference, else its reference.

    Args:
        model: The model; without a reference it is returned as it is.
        some: Gives some tiles of what is to be predicted, ``(N, H, W, C)``, in stored units.
        runtime: Device and precision.
    """
    if model.reference is None:
        return model
    with ThreadPoolExecutor(1) as pool:
        opened = pool.submit(model.reference)
        tiles = Tiles(some(), "the first scene")
    reference = model.run_as(opened.result())
    other = reference.engine if reference.engine != model.engine else f"{reference.engine} (float32)"
    try:
        parity = compare_models(reference, model, tiles, runtime)
    except LevelgroundError as error:
        reason = one_line(str(error)).rstrip(".")
        say(
            "%(name)s: %(engine)s cannot run it (%(reason)s); %(engine2)s does.",
            name=model.spec.name,
            engine=model.engine,
            reason=reason,
            engine2=other,
        )
        return reference
    share = decimal(f"{100 * parity.equal_classes:.2f}")
    if parity.equal_classes < EQUAL_ENOUGH:
        say(
            "%(name)s: on %(n)s of its tiles %(engine)s gives %(share)s %% of the pixels the class that %(engine2)s "
            "gives, fewer than %(value)s %%; %(engine2)s runs it.",
            name=model.spec.name,
            n=parity.tiles,
            engine=model.engine,
            share=share,
            engine2=other,
            value=decimal(f"{100 * EQUAL_ENOUGH:g}"),
        )
        return reference
    say(
        "%(name)s: %(engine)s runs it; on %(n)s of its tiles %(share)s %% of the pixels have the class that "
        "%(engine2)s gives.",
        name=model.spec.name,
        n=parity.tiles,
        engine=model.engine,
        share=share,
        engine2=other,
    )
    return dataclasses.replace(model, reference=None)


def proof_tiles(pixels: Pixels, geometry: TileGeometry) -> NDArray[np.generic]:
    """Cut some tiles of a scene, spread evenly over it, as the sliding window cuts them.

    Args:
        pixels: The scene, ``(H, W, C)``.
        geometry: Tile and halo.
    Returns:
        ``(N, tile, tile, C)``: one tile, or as many small ones as hold :data:`PROOF_PIXELS`.
    """
    height, width, _ = pixels.shape
    rows, cols = plan_axis(height, geometry), plan_axis(width, geometry)
    n = min(MOST_PROOFS, max(1, PROOF_PIXELS // (rows.tile * cols.tile)))
    chosen = np.unique(np.linspace(0, len(rows.starts) * len(cols.starts) - 1, n + 2).round().astype(int)[1:-1])
    places = [divmod(int(place), len(cols.starts)) for place in chosen]
    return np.stack([pad_tile(pixels[rows.extent(r), cols.extent(c)], rows.tile, cols.tile) for r, c in places])
