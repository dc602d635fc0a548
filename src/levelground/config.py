"""Options of the commands, each declared once, and recipes, which say how every model of a comparison is trained."""

import re
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from levelground.errors import ConfigError

_STRICT = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

LossName = Literal["ce", "dice", "focal", "ce+dice", "focal+dice", "smp-dice"]
Selection = Literal["val_miou", "val_loss", "last"]
Figures = tuple[Literal["png", "svg", "pdf"], ...]
PNG: Figures = ("png",)
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""A run's seed: one word of the generators of NumPy and torch."""

_UNDECIDED = tyro.conf.arg(metavar="| --no-zero-is-nodata")


@dataclass(frozen=True, config=_STRICT)
class Recipe:
    """How models are trained; see docs/recipes.md for the reasons behind the default values."""

    name: Annotated[str, tyro.conf.arg(name="recipe")] = "default"
    """Shipped recipe (default, origin) or the path of a TOML file; flags given beside it override its fields."""
    encoder: str = "tu-tf_efficientnet_lite0"
    """Encoder, by the name that segmentation_models_pytorch gives it (tu-NAME for timm's)."""
    encoder_weights: str = "auto"
    """Where encoder weights come from: none, package (carried by an installed package), imagenet (the hub, or its local
    cache), the path of a file or folder, or auto (package where there is one, else imagenet)."""
    outputs: Literal["counted", "all"] = "counted"
    """Classes that get an output of the network: the counted ones, or all of the legend."""
    tile: Annotated[int, Field(ge=0, le=8192)] = 512
    """Side of the training crop and of the inference tile, px, a multiple of 32; 0 takes whole scenes."""
    halo: Annotated[int, Field(ge=0, le=1024)] = 56
    """Half of the overlap of neighbouring inference tiles, px."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 8
    """Crops in a training step."""
    default_epochs: Annotated[float, Field(gt=0, le=100_000)] = 5.0
    """Budget in epochs where none is given; one epoch sees as many pixels as the training scenes hold."""
    optimiser: Literal["adamw", "adam"] = "adamw"
    """Optimiser."""
    lr: Annotated[float, Field(gt=0, le=10)] = 2e-3
    """Highest learning rate of the decoder, and of an encoder without weights."""
    encoder_lr_factor: Annotated[float, Field(gt=0, le=10)] = 0.2
    """Learning rate of an encoder with weights, as a factor of lr."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Weight decay of matrices and kernels; biases and normalisation layers have none."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Course of the learning rate after the warm-up."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps in which the learning rate rises from zero."""
    clip: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """Largest norm of the gradient; 0 leaves it as it is."""
    loss: LossName = "ce+dice"
    """Loss; smp-dice is segmentation_models_pytorch's own, which gives 0 to classes absent from the batch."""
    class_weights: Literal["none", "sqrt", "inverse"] = "none"
    """Weights of classes in cross-entropy and focal loss, from their measured shares."""
    scale_min: Annotated[float, Field(gt=0, le=8)] = 0.5
    """Smallest side of a random crop before it is resized to the tile, as a factor of the tile."""
    scale_max: Annotated[float, Field(gt=0, le=8)] = 1.5
    """Largest side of a random crop before it is resized to the tile, as a factor of the tile."""
    d4: bool = True
    """Turn and flip crops at random (the eight symmetries of the square)."""
    colour: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Strength of random brightness, contrast and band gains; 0 leaves colours as they are."""
    normalise: Literal["weights", "data", "none"] = "weights"
    """Band means and deviations that inputs are normalised by: those that the encoder weights were trained with, those
    of the training scenes, or none (values 0 to 1). Encoders without weights and imagery other than uint8 take the
    scenes'."""
    freeze_encoder_children: Annotated[int, Field(ge=-64, le=64)] = 0
    """Freeze encoder children [:n] as Python slices; -2 freezes all but the last two, 0 none."""
    select: Selection = "val_miou"
    """Which weights are kept: best on validation by mIoU or by loss, or the last."""
    select_groups: Annotated[int, Field(ge=0, le=10_000)] = 3
    """Fewest groups of validation scenes that can tell which weights are best; with fewer, or where validation lacks a
    class of the training scenes, the last weights are kept. 0 lets any validation choose."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the run, at its end, over whose steps weights are averaged; the averages are validated and kept. 0 keeps
    the weights of single steps."""
    validations: Annotated[int, Field(ge=0, le=10_000)] = 5
    """How often the validation scenes are scored, evenly over the steps; 0 does it at the end of every epoch."""
    validation_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Largest work of all validations as a share of the training's: where the validation scenes hold more, a sample of
    their windows is scored, the same for every model. 1 scores them whole."""
    sanity_check: bool = False
    """Train one epoch on two scenes first, thrown away, to fail early."""

    def __post_init__(self) -> None:
        """Refuse fields that contradict each other."""
        if self.scale_min > self.scale_max:
            raise ValueError(f"scale_min {self.scale_min} exceeds scale_max {self.scale_max}; exchange the two")


@dataclass(frozen=True, config=_STRICT)
class Budget:
    """How long each model is trained; at most one is given, else the recipe's epochs hold."""

    steps: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Optimiser steps of each run."""
    epochs: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Epochs of each run; one sees as many pixels as the training scenes hold."""
    minutes: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Minutes of each run, validations and saved states included: the learning rate follows the share of the time that
    is used, and training ends when it is used up."""

    def __post_init__(self) -> None:
        """Refuse two budgets at once."""
        given = [name for name in ("steps", "epochs", "minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"give one of --steps, --epochs and --minutes, not {' and '.join('--' + g for g in given)}"
            )

    def describe(self, recipe: Recipe) -> str:
        """Return the budget as it was asked for, such as ``2 minutes``; the recipe's epochs where none was given."""
        for unit in ("steps", "epochs", "minutes"):
            value = getattr(self, unit)
            if value is not None:
                return f"{value:.12g} {unit}"  # every digit: the budget is part of a run's identity
        return f"{recipe.default_epochs:.12g} epochs"

    def scaled(self, share: float, recipe: Recipe) -> "Budget":
        """Return a share of the budget, at least one step; of the recipe's epochs where none was given.

        Example:
            >>> Budget(steps=48).scaled(0.25, Recipe()).steps, Budget().scaled(0.5, Recipe()).epochs
            (12, 2.5)
        """
        if self.steps is not None:
            return Budget(steps=max(1, round(share * self.steps)))
        if self.minutes is not None:
            return Budget(minutes=share * self.minutes)
        return Budget(epochs=share * (self.epochs or recipe.default_epochs))


OPTIONS_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
PrecisionName = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class DeviceOptions:
    """Device, precision and threads."""

    device: DeviceName = "auto"
    """Where to compute; auto takes CUDA, then MPS, then the CPU."""
    precision: PrecisionName = "auto"
    """Precision of multiplications; auto takes bf16 where the hardware has it."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads; without it, all cores. Other numbers of threads give other last bits of the weights."""


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class RunOptions:
    """How a run is computed and saved: loader processes, training processes, determinism, saved states."""

    workers: Annotated[int, Field(ge=0, le=256)] | None = None
    """Loader processes; without it, none on a CPU and up to 8 beside a GPU. They change no sample."""
    processes: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Processes that share each batch, one device each; without it, one, or as many as torchrun started."""
    deterministic: bool = False
    """On a GPU, only algorithms that give the same bits every time: slower. A CPU always does."""
    save_every: Annotated[float, Field(gt=0)] = 60.0
    """Longest time between two saved states, seconds."""


DeviceGroup = Annotated[tyro.conf.OmitArgPrefixes[DeviceOptions], tyro.conf.arg(name="device")]
"""The device options of a command, under a heading of their own in its help."""
RunGroup = Annotated[tyro.conf.OmitArgPrefixes[RunOptions], tyro.conf.arg(name="run")]
"""The run options of a command, likewise."""

METRIC, DELTA = "official.miou", 0.01
"""The primary metric, and the difference that does not matter, where nobody names others."""


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class StudyOptions:
    """Which models a study trains, and the question that it asks of them."""

    archs: Annotated[tuple[str, ...], Field(min_length=1)] = ("pspnet", "unet", "fpn")
    """Architectures: unet unetplusplus fpn pspnet deeplabv3 deeplabv3plus linknet manet pan upernet segformer dpt;
    or FILE.py:FUNCTION for a network of your own, hf:FOLDER_OR_NAME for one of transformers."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    """Seeds: each architecture is trained once with each. Two or more let verdicts speak of architectures."""
    twins: bool = False
    """Negative control: train each architecture under a second name too, with other seeds."""
    metric: str = METRIC
    """The metric that verdicts are about, named before results are seen: SCORING.MEASURE, such as kept.miou."""
    delta: Annotated[float, Field(ge=0, lt=1)] = DELTA
    """Differences smaller than this do not matter; verdicts of equality mean it."""
    budgets: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0,)
    """Shares of the budget: every architecture and seed is also trained at these, each with a full schedule of its own;
    1, the whole budget, is always among them."""
    init: tuple[str, ...] = ()
    """Whole networks to start from, one for each architecture: runs, folders or weights, as train --init takes them."""
    recipe_for: tuple[str, ...] = ()
    """Recipe fields of single architectures, ARCH=FILE each, such as unet=study/tune/unet.toml that levelground tune
    wrote; all other fields are the recipe's."""
    figures: Figures = PNG
    """Formats of the pictures in figures/, any of png, svg and pdf; without a format none is drawn."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = Recipe()
    budget: tyro.conf.OmitArgPrefixes[Budget] = Budget()
    run_options: RunGroup = RunOptions()


GROUP_SOURCES = ("auto", "pixels", "folders", "file", "none")


def group_distance_m(asked: str) -> float | None:
    """Return the distance of ``km:20`` in metres; ``None`` where another source of groups is asked for."""
    found = re.fullmatch(r"km:([0-9]+(?:\.[0-9]+)?|\.[0-9]+)", asked)
    return 1000 * float(found[1]) if found else None


def _check_groups(asked: str) -> str:
    if asked not in GROUP_SOURCES and not group_distance_m(asked):
        raise ValueError(f"expected {', '.join(GROUP_SOURCES)} or a distance above 0 such as km:20")
    return asked


GroupsFrom = Annotated[str, AfterValidator(_check_groups)]
"""Where groups come from: one of :data:`GROUP_SOURCES`, or a distance."""
Layout = Literal["kaggle", "folders", "index", "geotiff", "raster"]
"""How a data folder is laid out: how masks are told from images, and what they hold."""
SplitRule = Literal["auto", "origin", "lists", "random", "grouped", "folders", "blocks"]


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class PrepareOptions:
    """What to prepare, and how."""

    out: Path = Path("study")
    """Study folder to create or to go on with."""
    data: Path | None = None
    """Folder with the scenes; may be left out with --download."""
    layout: Literal["auto", Layout] = "auto"
    """How the folder is laid out; auto detects the layout and prints it."""
    images: str | None = None
    """Pattern of the images below --data, such as 'S2Hand/{id}_S2Hand.tif'; given together with --labels."""
    labels: str | None = None
    """Pattern of the masks, such as 'LabelHand/{id}_LabelHand.tif'; what is in braces, or else the wildcards * and **/,
    must be the same in both."""
    legend: Path | None = None
    """Legend file (TOML, QML, CLR, DBF, CSV) or the name of a shipped one (see levelground legends); by default
    legend.toml in the data folder, else what the layout implies, else names and colours that lie beside the masks."""
    label_nodata: tuple[int, ...] = ()
    """Values of index masks that are no data, beside those that the legend and the files name, such as 0 or -1."""
    bands: tuple[str, ...] = ()
    """Bands that are files of their own, by the part of the file name that tells them, such as B02 B03 B04 B08."""
    label_field: str | None = None
    """Field of the polygons of a GeoPackage, GeoJSON or shapefile that holds the class; else found by its name."""
    label_outside: str | None = None
    """Class of the pixels outside all polygons, a name or value of the legend; without it, they are no data."""
    all_touched: bool = False
    """Draw every pixel that a polygon touches, not only those whose centre it holds."""
    exclude: tuple[str, ...] = ()
    """Layers whose pixels are left out like any without data: PATTERN of vector files or of rasters (all but 0), or
    PATTERN=VALUES, such as 'scl/*.tif=3,8,9,10'."""
    within: tuple[str, ...] = ()
    """Areas of interest likewise: pixels outside them are left out."""
    split: SplitRule = "auto"
    """Which scenes train, validate, test; auto: train/ val/ test/ folders, strips of one raster, else grouped; blocks
    cuts scenes into squares that go to the sets whole."""
    block_m: Annotated[float, Field(gt=0)] | None = None
    """Side of the squares of --split blocks on the ground, metres; scenes that share a map share its squares."""
    block_px: Annotated[int, Field(ge=1)] | None = None
    """The same side in pixels, for scenes without a place on the ground too."""
    buffer_m: Annotated[float, Field(ge=0)] | None = None
    """Training pixels nearer than this to a square that validates or tests, and validation pixels nearer than this to
    one that tests, metres, are left out; without it and --buffer-px, an eighth of the side."""
    buffer_px: Annotated[int, Field(ge=0)] | None = None
    """The same distance in pixels."""
    split_seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of the random and grouped splits, of blocks and of folds."""
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """Number of folds: every scene is a test scene once, all models are trained for each fold; else one split."""
    lists: Path | None = None
    """Folder with train.txt, val.txt (or crossvali.txt) and test.txt, one file name a line; for --split lists."""
    groups: GroupsFrom = "auto"
    """Which scenes belong together: auto (groups.csv in the data folder, else folders and pixels), pixels, folders,
    file (groups.csv), none, or a distance: km:20 joins georeferenced scenes that lie less than 20 km apart."""
    snap_colours: Annotated[int, Field(ge=0, le=127)] = 0
    """Mask colours that are not a class become the nearest class up to this difference in each channel, grey levels."""
    skip_bad: bool = False
    """Leave out scenes with errors and list them in dataset.json; by default the first one stops."""
    block: Annotated[int, Field(ge=1)] = 256
    """Side of the blocks that one large raster is cut into, in pixels."""
    align: bool = False
    """Bring labels that lie on another grid onto their image's by nearest neighbour; without it they are refused."""
    zero_is_nodata: Annotated[bool | None, _UNDECIDED] = None
    """Image pixels that are 0 in every band are no data; False: they are dark ground; None: no data in rasters without
    nodata value, mask and alpha."""
    cache: Path | None = None
    """Folder for decoded scenes; by default $LEVELGROUND_CACHE, else levelground in the user's cache folder."""
    download: Literal["kaggle"] | None = None
    """Fetch DeepGlobe with kagglehub first, where you have access."""

    def __post_init__(self) -> None:
        """Refuse one pattern without the other."""
        if (self.images is None) != (self.labels is None) and not (self.bands and self.labels):
            given, other = ("images", "labels") if self.labels is None else ("labels", "images")
            raise ConfigError(f"--{given} '{getattr(self, given)}': given without --{other}. Pass both patterns.")


Normalisation = Literal["none", "imagenet", "data"]


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class WeightsOptions:
    """Properties of another tool's weights, as far as they are known."""

    arch: str | None = None
    """Architecture the weights belong to; without it, their tensors tell, which is said."""
    encoder: str | None = None
    """Encoder the weights belong to; without it, their tensors tell, which is said."""
    classes: Annotated[int, Field(ge=1, le=255)] | None = None
    """Number of the network's outputs; without it, the weights'."""
    outputs: tuple[int, ...] = ()
    """Legend index of each output; by default all classes, or all counted ones, whichever are as many. Outputs of one
    class are summed; of a single output the classes below and above .5 are given."""
    decoder: tuple[str, ...] = ()
    """Options of the architecture under segmentation_models_pytorch's names, NAME=VALUE each, such as
    decoder_attention_type=scse decoder_channels=128,64,32,16,8; those that tensors show are read from them."""
    part: str | None = None
    """Which of several networks in one file, by the place that the message lists, such as model_ema."""
    normalise: Normalisation | None = None
    """How inputs were normalised in training: none (values 0 to 1, as in the origin study), imagenet, or data (the
    training scenes' means); without it, what is described beside the weights, else values 0 to 1."""
    history: Path | None = None
    """Training history, beside weights or predictions or alone: the origin study's (*_trainhist.json), Keras',
    Lightning's or ultralytics' log, or another CSV or JSON by epoch or step."""


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class PredictionOptions:
    """How another tool's predictions are found, read and counted."""

    split: Literal["test", "val"] = "test"
    """Scenes that predictions are counted on."""
    names: str | None = None
    """Names of the predictions: {id} stands for the scene's id, * for anything, {n} or {n+1} for its place in the split
    from 0 or 1, as in DG_{id}.png; without it, they are found by scene id."""
    class_map: tuple[str, ...] = ()
    """What numbers, colours or classes of the predictions mean: FROM=CLASS each, such as 1=Water 3+4=0 #FF0000=Water
    Rangeland=Barren; numbers are those of index masks or channels. All others keep their meaning, but where a number
    of the legend is given another one all have to be named."""
    snap_colours: Annotated[int, Field(ge=0, le=127)] = 0
    """Colours of predicted masks that are not a class become the nearest class up to this difference, grey levels."""
    blue_first: bool = False
    """Colours of predicted masks are stored with blue first, as OpenCV writes an RGB array."""
    align: bool = False
    """Bring georeferenced maps that lie on another grid onto their scene's by nearest neighbour; without it they are
    refused."""


ExportFormat = Literal["onnx", "smp", "openvino", "onnx-int8", "openvino-int8", "stac"]


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class ExportOptions:
    """Options of an export."""

    tile: Annotated[int, Field(ge=32, le=8192)] | None = None
    """Height and width of the input of a file, px, a multiple of 32; without it, what the run was trained on."""
    gsd: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """Ground sample distance of the training images, metres a pixel; without it, what the run card says."""
    overwrite: bool = False
    """Replace an older export."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads of the check; without it, all cores."""


ProbsFormat = Literal["none", "uint8", "float32"]
PolygonFormat = Literal["none", "gpkg", "geojson"]
EngineName = Literal["auto", "torch", "openvino", "onnx"]


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class TileOptions:
    """Tiles to run a model on instead of its own (:func:`levelground.tile_geometry.choose_geometry`); its engine."""

    tile: Annotated[int, Field(ge=0, le=16384)] | None = None
    """Side of a tile, px, a multiple of 32; 0 takes whole scenes; without it, the model's."""
    halo: Annotated[int, Field(ge=0, le=4096)] | None = None
    """Half of the overlap of neighbouring tiles, px; without it, the model's, or an eighth of another tile."""
    batch: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Tiles run at a time; without it, about one megapixel of them on a CPU, eight on a GPU, and one in OpenVINO."""
    fit_tile: bool = False
    """Take the tile that covers a scene with the fewest pixels, from the model's own to a megapixel (GPU: eight)."""
    engine: EngineName = "auto"
    """What runs the network; auto takes torch for runs and folders, OpenVINO for ONNX files where it is installed, else
    onnxruntime. OpenVINO is used on CPUs, once its classes were seen to equal the other engine's on some tiles."""


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class ReadOptions:
    """How `predict` reads its inputs: bands, pixels without data, ground sample distance."""

    bands: tuple[int, ...] = ()
    """Bands to read, from 1, in the model's order; without it, all of them where the raster has as many."""
    stack: tuple[str, ...] = ()
    """Bands that are files of their own in the folders given, in the model's order: B02 B03, as --bands of prepare."""
    alpha: bool = True
    """Zeros of an alpha band that the model does not read are no data."""
    zero_is_nodata: Annotated[bool | None, _UNDECIDED] = None
    """Pixels that are 0 in every band are no data; False: they are dark ground; None: no data in rasters without
    nodata value, mask and alpha, as in training."""
    resample: bool = False
    """Bring pixels to the ground sample distance the model was trained at; the map stays on the input's grid."""
    any_gsd: bool = False
    """Predict a raster as it is even if its ground sample distance is more than 4 times off."""


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class PredictOptions(TileOptions, ReadOptions):
    """How `predict` reads its inputs, runs the model and writes the maps."""

    tta: Literal["none", "d4"] = "none"
    """Test-time augmentation; d4 takes the mean over the eight symmetries of the square, in eight times the time."""
    probs: ProbsFormat = "none"
    """Write probabilities, a band for each class; uint8 in steps of 1/254."""
    polygons: PolygonFormat = "none"
    """Write connected pixels of one class as polygons, with class, name and area: gpkg or geojson."""
    smallest_area: Annotated[float, Field(ge=0)] = 0.0
    """Merge smaller polygons into their largest neighbour; m², or pixels where the ground is not known."""
    picture: bool = False
    """Write the map's colours as a PNG; no data is transparent."""
    overlay: bool = False
    """Write a PNG of the map over its image, with the names of its classes."""
    picture_side: Annotated[int, Field(ge=16, le=16384)] = 4096
    """Longest side of these PNGs at most, px."""
    values: Literal["index", "stored"] = "index"
    """What class maps hold: numbers of the classes, or the values that the masks stored, as the legend names them."""
    cog: bool = True
    """Write cloud-optimised GeoTIFFs, with overviews; otherwise plain tiled ones."""
    overwrite: bool = False
    """Replace maps that exist already."""

    def __post_init__(self) -> None:
        """Refuse options that contradict each other."""
        if self.smallest_area and self.polygons == "none":
            given = f"--smallest-area {self.smallest_area:g}"
            raise ConfigError(f"{given}: no polygons are asked for. Pass --polygons gpkg, or leave it away.")
