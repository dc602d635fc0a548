"""The Python API with its types; made by docs/stub.py from the options of the commands, not to be edited."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from levelground import errors as errors
from levelground import metrics as metrics
from levelground import statistics as statistics
from levelground.comparison.benchmark_record import Benchmark
from levelground.comparison.record import Comparison as Comparison
from levelground.comparison.record import read_comparison as read_comparison
from levelground.config import Budget as Budget
from levelground.config import Recipe as Recipe
from levelground.datasets.dataset import Dataset as Dataset
from levelground.datasets.dataset import read_dataset as read_dataset
from levelground.history import read_history as read_history
from levelground.imagery.legend import Legend as Legend
from levelground.imagery.legend import LegendClass as LegendClass
from levelground.imagery.legend_sources import read_legend as read_legend
from levelground.integrity import CheckedFolder
from levelground.metrics.counts import SceneCounts as SceneCounts
from levelground.metrics.counts import read_counts as read_counts
from levelground.models.loading import load_model as load_model
from levelground.models.model import Model as Model
from levelground.models.spec import ModelSpec as ModelSpec
from levelground.prediction.predict import PredictedMap
from levelground.recipe_files import load_recipe as load_recipe
from levelground.runs import Run as Run
from levelground.runs import list_runs as list_runs
from levelground.runs import read_run as read_run
from levelground.scaling.jobs import RunRow

__version__: str
__all__ = [
    "Budget",
    "Comparison",
    "Dataset",
    "Legend",
    "LegendClass",
    "Model",
    "ModelSpec",
    "Recipe",
    "Run",
    "SceneCounts",
    "__version__",
    "adopt",
    "benchmark",
    "check",
    "compare",
    "completion",
    "demo",
    "doctor",
    "errors",
    "evaluate",
    "export",
    "jobs",
    "legends",
    "list_runs",
    "load_model",
    "load_recipe",
    "metrics",
    "predict",
    "prepare",
    "read_comparison",
    "read_counts",
    "read_dataset",
    "read_history",
    "read_legend",
    "read_run",
    "report",
    "serve",
    "statistics",
    "study",
    "track",
    "train",
    "tune",
]

def adopt(
    weights: str | PathLike[str] | None = None,
    *,
    study: str | PathLike[str] = ".",
    arch: str | None = None,
    encoder: str | None = None,
    classes: int | None = None,
    outputs: int | Sequence[int] = (),
    decoder: str | Sequence[str] = (),
    part: str | None = None,
    normalise: Literal["none", "imagenet", "data"] | None = None,
    history: str | PathLike[str] | None = None,
    predictions: str | PathLike[str] | None = None,
    split: Literal["test", "val"] = "test",
    names: str | None = None,
    class_map: str | Sequence[str] = (),
    snap_colours: int = 0,
    blue_first: bool = False,
    align: bool = False,
    name: str | None = None,
    as_: str | None = None,
    seed: int | None = None,
) -> Run:
    r"""Make a run of another tool's weights or predicted masks, to be evaluated and compared like any other.

    Args:
        weights (path | None): File of weights (.pth, .ckpt, .safetensors) of a network of
            segmentation_models_pytorch, or a folder with them and config.json; or a whole
            network in ONNX or TorchScript; left out with ``predictions``.
        study (path): Prepared study folder that gets the run; by default the current
            folder.
        arch (str | None): Architecture the weights belong to; without it, their tensors
            tell, which is said.
        encoder (str | None): Encoder the weights belong to; without it, their tensors tell,
            which is said.
        classes (int | None): Number of the network's outputs; without it, the weights'.
        outputs (int | Sequence[int]): Legend index of each output; by default all classes,
            or all counted ones, whichever are as many. Outputs of one class are summed; of
            a single output the classes below and above .5 are given.
        decoder (str | Sequence[str]): Options of the architecture under
            segmentation_models_pytorch's names, NAME=VALUE each, such as
            decoder_attention_type=scse decoder_channels=128,64,32,16,8; those that tensors
            show are read from them.
        part (str | None): Which of several networks in one file, by the place that the
            message lists, such as model_ema.
        normalise (Literal['none', 'imagenet', 'data'] | None): How inputs were normalised
            in training: none (values 0 to 1, as in the origin study), imagenet, or data
            (the training scenes' means); without it, what is described beside the weights,
            else values 0 to 1.
        history (path | None): Training history, beside weights or predictions or alone: the
            origin study's (*_trainhist.json), Keras', Lightning's or ultralytics' log, or
            another CSV or JSON by epoch or step.
        predictions (path | None): Folder of predictions in place of weights, one file a
            scene: masks of colours or class indices, or arrays (.npy, .npz) of classes or
            probabilities.
        split (Literal['test', 'val']): Scenes that predictions are counted on.
        names (str | None): Names of the predictions: {id} stands for the scene's id, * for
            anything, {n} or {n+1} for its place in the split from 0 or 1, as in
            DG_{id}.png; without it, they are found by scene id.
        class_map (str | Sequence[str]): What numbers, colours or classes of the predictions
            mean: FROM=CLASS each, such as 1=Water 3+4=0 #FF0000=Water Rangeland=Barren;
            numbers are those of index masks or channels. All others keep their meaning, but
            where a number of the legend is given another one all have to be named.
        snap_colours (int): Colours of predicted masks that are not a class become the
            nearest class up to this difference, grey levels.
        blue_first (bool): Colours of predicted masks are stored with blue first, as OpenCV
            writes an RGB array.
        align (bool): Bring georeferenced maps that lie on another grid onto their scene's
            by nearest neighbour; without it they are refused.
        name (str | None): Name of the run; without it, one of architecture and encoder, or
            the masks' folder's.
        as_ (str | None): Name of the architecture that this is one training of; runs with
            the same name and other seeds are compared as one architecture. Needs ``seed``.
            Without it, the weights' own.
        seed (int | None): Seed, or number, of this training; without it, the run stands
            alone, without a verdict on its architecture.
    Returns:
        The run; masks are counted already, weights are evaluated by ``levelground evaluate``.
    Raises:
        ConfigError: Both or neither of weights and predictions are given, or a flag goes with the other one.
        LevelgroundError: They do not fit the study.
    """

def benchmark(
    studies: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    out: str | PathLike[str],
) -> Benchmark:
    r"""Put models and data sets on one page: verdicts within each set, and what holds across sets.

    Args:
        studies (path | Sequence[path]): Study folders with comparison.json, one a data set,
            two or more.
        out (path): Folder for report.html and benchmark.json, .csv, .md and .tex.
    Returns:
        The benchmark, already on disk beside its tables and its page.
    Raises:
        RecordError: A study has no comparison, or it is damaged.
        ConfigError: Fewer than two studies, or fewer than two models in all of them.
        UnlikeError: The studies were compared by unlike metrics.
        DiskError: A file cannot be written.
    """

def check(
    study: str | PathLike[str],
) -> CheckedFolder:
    r"""Verify every file of a study against its checksum, and say file by file what is damaged and what to redo.

    Args:
        study (path): Study folder, or a run, export, report or folder of maps; decoded
            scenes of a data set are checked with it.
    Returns:
        Each file with what is wrong with it and what to redo; the exit status is 2 where one is damaged or missing.
    Raises:
        RecordError: There is no such folder, or it holds nothing that levelground wrote.
    """

def compare(
    runs: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    out: str | PathLike[str] | None = None,
    split: Literal["val", "test"] = "test",
    metric: str | None = None,
    delta: float | None = None,
    allow_unlike: bool = False,
) -> Comparison:
    r"""Compare evaluated runs by their counts: scores, intervals and verdicts; needs no torch and no pixels.

    Args:
        runs (path | Sequence[path]): Run folders, or study folders, whose evaluated runs
            are all taken; one run alone gets its own scores.
        out (path | None): Folder for comparison.json, .csv, .md and .tex; without it, the
            study that all runs belong to.
        split (Literal['val', 'test']): Split whose counts are compared.
        metric (str | None): Primary metric, the one that is tested; without it, the one the
            study named, else official.miou. Another one makes an exploratory view, labelled
            and logged. VIEW.KIND or VIEW.KIND:CLASS, with views official, kept, all,
            boundary and kinds miou, mf1, pixel_accuracy, fwiou, kappa, or of one class iou,
            f1, precision, recall.
        delta (float | None): Differences below this do not matter, as a fraction; runs
            shown to lie closer are called equal. Without it, the one that the study named,
            else .01.
        allow_unlike (bool): Compare runs of unlike recipe, budget, weight source, split or
            tile geometry; what differs is named. Runs with unlike labels, legends or test
            scenes are never compared.
    Returns:
        The comparison.
    Raises:
        UnlikeError: The runs must not be compared; the message names what differs.
        LevelgroundError: A folder holds no run, or a run was not evaluated on the split.
    """

def completion(
    shell: Literal["bash", "zsh", "fish"],
) -> str:
    r"""Print the script that lets a shell complete commands, flags and their values.

    Args:
        shell (Literal['bash', 'zsh', 'fish']): The shell; for bash add the line 'source
            <(levelground completion bash)' to ~/.bashrc.
    Returns:
        The script.
    Raises:
        ConfigError: There is no such shell.
    """

def demo(
    *,
    out: str | PathLike[str] = "demo",
    archs: str | Sequence[str] = ("pspnet", "unet", "fpn"),
    seeds: int | Sequence[int] = (0,),
    scenes: int = 80,
    size: int = 448,
    scene_seed: int = 0,
    budgets: float | Sequence[float] = (0.25, 1.0),
    figures: Literal["png", "svg", "pdf"] | Sequence[Literal["png", "svg", "pdf"]] = ("png",),
    recipe: str | PathLike[str] | Recipe = "default",
    encoder: str = "tu-tf_efficientnet_lite0",
    encoder_weights: str = "auto",
    outputs: Literal["counted", "all"] = "counted",
    tile: int = 256,
    halo: int = 32,
    batch: int = 8,
    default_epochs: float = 5.0,
    optimiser: Literal["adamw", "adam"] = "adamw",
    lr: float = 0.002,
    encoder_lr_factor: float = 0.2,
    weight_decay: float = 0.01,
    schedule: Literal["cosine", "constant"] = "cosine",
    warmup: float = 0.05,
    clip: float = 1.0,
    loss: Literal["ce", "dice", "focal", "ce+dice", "focal+dice", "smp-dice"] = "ce+dice",
    class_weights: Literal["none", "sqrt", "inverse"] = "none",
    scale_min: float = 0.5,
    scale_max: float = 1.5,
    d4: bool = True,
    colour: float = 0.2,
    normalise: Literal["weights", "data", "none"] = "weights",
    freeze_encoder_children: int = 0,
    select: Literal["val_miou", "val_loss", "last"] = "val_miou",
    select_groups: int = 3,
    average: float = 0.0,
    validations: int = 3,
    validation_share: float = 0.25,
    sanity_check: bool = False,
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    threads: int | None = None,
) -> Comparison:
    r"""Generate land-cover scenes and run a whole study on them; needs no data and no network.

    Args:
        out (path): Folder of the study; scenes and cache are in it too.
        archs (str | Sequence[str]): Architectures to compare.
        seeds (int | Sequence[int]): Seeds: each architecture is trained once with each.
        scenes (int): How many scenes are generated; 24 of the default number are test
            scenes.
        size (int): Side of a scene, px; two tiles of 256 px that overlap cover the default.
        scene_seed (int): Seed of the scenes.
        budgets (float | Sequence[float]): Shares of the budget: every run is also trained
            at these, each with a full schedule of its own.
        figures (Literal['png', 'svg', 'pdf'] | Sequence[Literal['png', 'svg', 'pdf']]):
            Formats of the pictures in figures/, any of png, svg and pdf; without a format
            none is drawn.
        recipe (path | Recipe): Shipped recipe (default, origin) or the path of a TOML file;
            flags given beside it override its fields.
        encoder (str): Encoder, by the name that segmentation_models_pytorch gives it
            (tu-NAME for timm's).
        encoder_weights (str): Where encoder weights come from: none, package (carried by an
            installed package), imagenet (the hub, or its local cache), the path of a file
            or folder, or auto (package where there is one, else imagenet).
        outputs (Literal['counted', 'all']): Classes that get an output of the network: the
            counted ones, or all of the legend.
        tile (int): Side of the training crop and of the inference tile, px, a multiple of
            32; 0 takes whole scenes.
        halo (int): Half of the overlap of neighbouring inference tiles, px.
        batch (int): Crops in a training step.
        default_epochs (float): Budget in epochs where none is given; one epoch sees as many
            pixels as the training scenes hold.
        optimiser (Literal['adamw', 'adam']): Optimiser.
        lr (float): Highest learning rate of the decoder, and of an encoder without weights.
        encoder_lr_factor (float): Learning rate of an encoder with weights, as a factor of
            lr.
        weight_decay (float): Weight decay of matrices and kernels; biases and normalisation
            layers have none.
        schedule (Literal['cosine', 'constant']): Course of the learning rate after the
            warm-up.
        warmup (float): Share of the steps in which the learning rate rises from zero.
        clip (float): Largest norm of the gradient; 0 leaves it as it is.
        loss (Literal['ce', 'dice', 'focal', 'ce+dice', 'focal+dice', 'smp-dice']): Loss;
            smp-dice is segmentation_models_pytorch's own, which gives 0 to classes absent
            from the batch.
        class_weights (Literal['none', 'sqrt', 'inverse']): Weights of classes in
            cross-entropy and focal loss, from their measured shares.
        scale_min (float): Smallest side of a random crop before it is resized to the tile,
            as a factor of the tile.
        scale_max (float): Largest side of a random crop before it is resized to the tile,
            as a factor of the tile.
        d4 (bool): Turn and flip crops at random (the eight symmetries of the square).
        colour (float): Strength of random brightness, contrast and band gains; 0 leaves
            colours as they are.
        normalise (Literal['weights', 'data', 'none']): Band means and deviations that
            inputs are normalised by: those that the encoder weights were trained with,
            those of the training scenes, or none (values 0 to 1). Encoders without weights
            and imagery other than uint8 take the scenes'.
        freeze_encoder_children (int): Freeze encoder children [:n] as Python slices; -2
            freezes all but the last two, 0 none.
        select (Literal['val_miou', 'val_loss', 'last']): Which weights are kept: best on
            validation by mIoU or by loss, or the last.
        select_groups (int): Fewest groups of validation scenes that can tell which weights
            are best; with fewer, or where validation lacks a class of the training scenes,
            the last weights are kept. 0 lets any validation choose.
        average (float): Share of the run, at its end, over whose steps weights are
            averaged; the averages are validated and kept. 0 keeps the weights of single
            steps.
        validations (int): How often the validation scenes are scored, evenly over the
            steps; 0 does it at the end of every epoch.
        validation_share (float): Largest work of all validations as a share of the
            training's: where the validation scenes hold more, a sample of their windows is
            scored, the same for every model. 1 scores them whole.
        sanity_check (bool): Train one epoch on two scenes first, thrown away, to fail
            early.
        steps (int | None): Optimiser steps of each run; 48 unless ``steps``, ``epochs`` or
            ``minutes`` is given.
        epochs (float | None): Epochs of each run; one sees as many pixels as the training
            scenes hold.
        minutes (float | None): Minutes of each run, validations and saved states included:
            the learning rate follows the share of the time that is used, and training ends
            when it is used up.
        device (Literal['auto', 'cpu', 'cuda', 'mps']): Where to compute; auto takes CUDA,
            then MPS, then the CPU.
        precision (Literal['auto', 'fp32', 'bf16']): Precision of multiplications; auto
            takes bf16 where the hardware has it.
        threads (int | None): CPU threads; without it, all cores. Other numbers of threads
            give other last bits of the weights.
    Returns:
        The comparison, on disk beside its tables, figures and ``report.html``.
    Raises:
        LevelgroundError: Something cannot be done; what is finished stays.
    """

def doctor(
    *,
    cache: str | PathLike[str] | None = None,
) -> list[str]:
    r"""Say what this installation can do: versions, device, threads, extras, cache, and how to get what is missing.

    Args:
        cache (path | None): Folder of decoded scenes to look at; without it, the default
            one.
    Returns:
        The lines.
    Raises:
        LevelgroundError: Never; what cannot be found out is said.
    """

def evaluate(
    study: str | PathLike[str],
    *,
    runs: str | Sequence[str] = (),
    split: Literal["test", "val"] = "test",
    on: str | PathLike[str] | None = None,
    class_map: str | Sequence[str] = (),
    code: str | Sequence[str] = (),
    tile: int | None = None,
    halo: int | None = None,
    batch: int | None = None,
    fit_tile: bool = False,
    engine: Literal["auto", "torch", "openvino", "onnx"] = "auto",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    threads: int | None = None,
) -> list[Path]:
    r"""Count the right and wrong pixels of runs in each scene of a split; counts that are there already are reused.

    Args:
        study (path): Study folder with dataset.json and runs/, or the folder of one run in
            it.
        runs (str | Sequence[str]): Names of runs in the study; without any, every run that
            has a model.
        split (Literal['test', 'val']): Scenes to evaluate on. Every evaluation on test is
            written down, and the report shows their number.
        on (path | None): Study of another data set: the runs are copied into it as
            RUN-from-STUDY, keep their normalisation, and are evaluated on its scenes.
        class_map (str | Sequence[str]): With ``on``: FROM=CLASS for classes of the runs, by
            name or number, that have another name there; several may become one.
        code (str | Sequence[str]): Code of runs whose network is your own, FILE.py:FUNCTION
            each; it runs only where it is named.
        tile (int | None): Side of a tile, px, a multiple of 32; 0 takes whole scenes;
            without it, the model's.
        halo (int | None): Half of the overlap of neighbouring tiles, px; without it, the
            model's, or an eighth of another tile.
        batch (int | None): Tiles run at a time; without it, about one megapixel of them on
            a CPU, eight on a GPU, and one in OpenVINO.
        fit_tile (bool): Take the tile that covers a scene with the fewest pixels, from the
            model's own to a megapixel (GPU: eight).
        engine (Literal['auto', 'torch', 'openvino', 'onnx']): What runs the network; auto
            takes torch for runs and folders, OpenVINO for ONNX files where it is installed,
            else onnxruntime. OpenVINO is used on CPUs, once its classes were seen to equal
            the other engine's on some tiles.
        device (Literal['auto', 'cpu', 'cuda', 'mps']): Where to compute; auto takes CUDA,
            then MPS, then the CPU.
        precision (Literal['auto', 'fp32', 'bf16']): Precision of multiplications; auto
            takes bf16 where the hardware has it.
        threads (int | None): CPU threads; without it, all cores. Other numbers of threads
            give other last bits of the weights.
    Returns:
        The counts files, in the order of the runs.
    Raises:
        RecordError: There is no such study or run.
        LevelgroundError: A run cannot be evaluated on these scenes; those before it are done.
    """

def export(
    run: str | PathLike[str],
    *,
    to: Literal["onnx", "smp", "openvino", "onnx-int8", "openvino-int8", "stac"]
    | Sequence[Literal["onnx", "smp", "openvino", "onnx-int8", "openvino-int8", "stac"]] = ("onnx",),
    code: str | None = None,
    tile: int | None = None,
    gsd: float | None = None,
    overwrite: bool = False,
    threads: int | None = None,
) -> list[Path]:
    r"""Write a run's model as an ONNX file or an SMP folder for other tools, and check it against the run's network.

    Args:
        run (path): Folder of a finished or adopted run.
        to (Sequence[Literal['onnx', 'smp', 'openvino', 'onnx-int8', 'openvino-int8', 'stac']]):
            Formats: onnx (one file, for QGIS, geodeep and onnxruntime), smp (a folder for
            smp.from_pretrained), openvino; onnx-int8 and openvino-int8 (8 bits, scored on
            the test scenes and rejected where worse); stac (a STAC item of the model and
            its files).
        code (str | None): Code of a run whose network is your own, FILE.py:FUNCTION; it
            runs only where it is named.
        tile (int | None): Height and width of the input of a file, px, a multiple of 32;
            without it, what the run was trained on.
        gsd (float | None): Ground sample distance of the training images, metres a pixel;
            without it, what the run card says.
        overwrite (bool): Replace an older export.
        threads (int | None): CPU threads of the check; without it, all cores.
    Returns:
        The file or folder of each format.
    Raises:
        RecordError: There is no such run.
        RejectedError: An 8-bit form is worse than the network by δ or more; the other formats are done.
        LevelgroundError: It cannot be exported; formats before it are done.
    """

def jobs(
    study: str | PathLike[str],
) -> list[RunRow]:
    r"""List what runs where in a study, how far it is, and how long it will take.

    Args:
        study (path): Study folder, of a study that runs, was stopped, or is finished; on a
            cluster or not.
    Returns:
        One row a run.
    Raises:
        RecordError: There is no study in the folder.
    """

def legends(
    name: str | None = None,
    *,
    out: str | PathLike[str] | None = None,
) -> dict[str, str]:
    r"""List the legends that are shipped, or print one as a legend file to start from.

    Args:
        name (str | None): Legend to print as TOML; without one, all are listed.
        out (path | None): File to write the legend to instead, to start from; an existing
            one is not replaced.
    Returns:
        What each listed legend describes, by its name.
    Raises:
        LegendError: There is no legend of this name.
        ConfigError: ``out`` exists, or no legend is named.
    """

def predict(
    model: str | PathLike[str],
    inputs: str | Sequence[str],
    *,
    out: str | PathLike[str] = "maps",
    bands: int | Sequence[int] = (),
    stack: str | Sequence[str] = (),
    alpha: bool = True,
    zero_is_nodata: bool | None = None,
    resample: bool = False,
    any_gsd: bool = False,
    tile: int | None = None,
    halo: int | None = None,
    batch: int | None = None,
    fit_tile: bool = False,
    engine: Literal["auto", "torch", "openvino", "onnx"] = "auto",
    tta: Literal["none", "d4"] = "none",
    probs: Literal["none", "uint8", "float32"] = "none",
    polygons: Literal["none", "gpkg", "geojson"] = "none",
    smallest_area: float = 0.0,
    picture: bool = False,
    overlay: bool = False,
    picture_side: int = 4096,
    values: Literal["index", "stored"] = "index",
    cog: bool = True,
    overwrite: bool = False,
    legend: str | PathLike[str] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    code: str | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    threads: int | None = None,
    cluster: str | None = None,
    cpus_per_run: int | None = None,
    gpus_per_run: float | None = None,
) -> list[PredictedMap]:
    r"""Predict class maps of images and rasters of any size; a job that was stopped is resumed by the same command.

    Args:
        model (path): Run folder, folder with config.json and model.safetensors, .onnx file,
            or OpenVINO's .xml file.
        inputs (str | Sequence[str]): Images, rasters, folders (with all their subfolders)
            and patterns such as 'scenes/*.tif'.
        out (path): Folder of the maps; subfolders of a folder that was given are kept in
            it.
        bands (int | Sequence[int]): Bands to read, from 1, in the model's order; without
            it, all of them where the raster has as many.
        stack (str | Sequence[str]): Bands that are files of their own in the folders given,
            in the model's order: B02 B03, as ``bands`` of prepare.
        alpha (bool): Zeros of an alpha band that the model does not read are no data.
        zero_is_nodata (bool | None): Pixels that are 0 in every band are no data; False:
            they are dark ground; None: no data in rasters without nodata value, mask and
            alpha, as in training.
        resample (bool): Bring pixels to the ground sample distance the model was trained
            at; the map stays on the input's grid.
        any_gsd (bool): Predict a raster as it is even if its ground sample distance is more
            than 4 times off.
        tile (int | None): Side of a tile, px, a multiple of 32; 0 takes whole scenes;
            without it, the model's.
        halo (int | None): Half of the overlap of neighbouring tiles, px; without it, the
            model's, or an eighth of another tile.
        batch (int | None): Tiles run at a time; without it, about one megapixel of them on
            a CPU, eight on a GPU, and one in OpenVINO.
        fit_tile (bool): Take the tile that covers a scene with the fewest pixels, from the
            model's own to a megapixel (GPU: eight).
        engine (Literal['auto', 'torch', 'openvino', 'onnx']): What runs the network; auto
            takes torch for runs and folders, OpenVINO for ONNX files where it is installed,
            else onnxruntime. OpenVINO is used on CPUs, once its classes were seen to equal
            the other engine's on some tiles.
        tta (Literal['none', 'd4']): Test-time augmentation; d4 takes the mean over the
            eight symmetries of the square, in eight times the time.
        probs (Literal['none', 'uint8', 'float32']): Write probabilities, a band for each
            class; uint8 in steps of 1/254.
        polygons (Literal['none', 'gpkg', 'geojson']): Write connected pixels of one class
            as polygons, with class, name and area: gpkg or geojson.
        smallest_area (float): Merge smaller polygons into their largest neighbour; m², or
            pixels where the ground is not known.
        picture (bool): Write the map's colours as a PNG; no data is transparent.
        overlay (bool): Write a PNG of the map over its image, with the names of its
            classes.
        picture_side (int): Longest side of these PNGs at most, px.
        values (Literal['index', 'stored']): What class maps hold: numbers of the classes,
            or the values that the masks stored, as the legend names them.
        cog (bool): Write cloud-optimised GeoTIFFs, with overviews; otherwise plain tiled
            ones.
        overwrite (bool): Replace maps that exist already.
        legend (path | None): Legend of another tool's model, a TOML file; ours bring their
            own.
        mean (float | Sequence[float] | None): Band means that another tool's model expects,
            in the units of the pixels.
        std (float | Sequence[float] | None): Band deviations likewise.
        code (str | None): Code of a run whose network is your own, FILE.py:FUNCTION; it
            runs only where it is named.
        device (Literal['auto', 'cpu', 'cuda', 'mps']): Where to compute; auto takes CUDA,
            then MPS, then the CPU.
        precision (Literal['auto', 'fp32', 'bf16']): Precision of multiplications; auto
            takes bf16 where the hardware has it.
        threads (int | None): CPU threads; without it, all cores. Other numbers of threads
            give other last bits of the weights.
        cluster (str | None): Where each run is a job of its own: local:N (processes of this
            machine), ray or ray:HOST:PORT (a running Ray cluster, extra 'cluster'), slurm
            or slurm:partition=gpu,time=4:00:00 (Slurm with sbatch's options, extra
            'cluster'); None runs them here, one after the other.
        cpus_per_run (int | None): CPUs, and so threads, of each job; without it,
            ``threads``, else the cores shared out under local:N, else 1, or 4 for each GPU.
        gpus_per_run (float | None): GPUs of each job; .5 puts two on one GPU (Ray and
            local:N). Without it, none under Ray and Slurm, and under local:N leaves all
            jobs all GPUs.
    Returns:
        The maps that this call finished; none of a cluster, which leaves them as files.
    Raises:
        ModelError: There is no model that can be run.
        LevelgroundError: An input does not fit the model or is truncated; what was finished is kept.
        UnfinishedError: Jobs of a cluster failed; the other maps are finished.
        KeyboardInterrupt: The job was stopped; the same command resumes it.
    """

def prepare(
    data: str | PathLike[str] | None = None,
    *,
    out: str | PathLike[str] = "study",
    layout: Literal["auto", "kaggle", "folders", "index", "geotiff", "raster"] = "auto",
    images: str | None = None,
    labels: str | None = None,
    legend: str | PathLike[str] | None = None,
    label_nodata: int | Sequence[int] = (),
    bands: str | Sequence[str] = (),
    label_field: str | None = None,
    label_outside: str | None = None,
    all_touched: bool = False,
    exclude: str | Sequence[str] = (),
    within: str | Sequence[str] = (),
    split: Literal["auto", "origin", "lists", "random", "grouped", "folders", "blocks"] = "auto",
    block_m: float | None = None,
    block_px: int | None = None,
    buffer_m: float | None = None,
    buffer_px: int | None = None,
    split_seed: int = 0,
    folds: int | None = None,
    lists: str | PathLike[str] | None = None,
    groups: str = "auto",
    snap_colours: int = 0,
    skip_bad: bool = False,
    block: int = 256,
    align: bool = False,
    zero_is_nodata: bool | None = None,
    cache: str | PathLike[str] | None = None,
    download: Literal["kaggle"] | None = None,
) -> Dataset:
    r"""Find and verify scenes, split them, and decode them once.

    Args:
        data (path | None): Folder with the scenes; may be left out with ``download``.
        out (path): Study folder to create or to go on with.
        layout (Literal['auto', 'kaggle', 'folders', 'index', 'geotiff', 'raster']): How the
            folder is laid out; auto detects the layout and prints it.
        images (str | None): Pattern of the images below ``data``, such as
            'S2Hand/{id}_S2Hand.tif'; given together with ``labels``.
        labels (str | None): Pattern of the masks, such as 'LabelHand/{id}_LabelHand.tif';
            what is in braces, or else the wildcards * and **/, must be the same in both.
        legend (path | None): Legend file (TOML, QML, CLR, DBF, CSV) or the name of a
            shipped one (see levelground legends); by default legend.toml in the data
            folder, else what the layout implies, else names and colours that lie beside the
            masks.
        label_nodata (int | Sequence[int]): Values of index masks that are no data, beside
            those that the legend and the files name, such as 0 or -1.
        bands (str | Sequence[str]): Bands that are files of their own, by the part of the
            file name that tells them, such as B02 B03 B04 B08.
        label_field (str | None): Field of the polygons of a GeoPackage, GeoJSON or
            shapefile that holds the class; else found by its name.
        label_outside (str | None): Class of the pixels outside all polygons, a name or
            value of the legend; without it, they are no data.
        all_touched (bool): Draw every pixel that a polygon touches, not only those whose
            centre it holds.
        exclude (str | Sequence[str]): Layers whose pixels are left out like any without
            data: PATTERN of vector files or of rasters (all but 0), or PATTERN=VALUES, such
            as 'scl/*.tif=3,8,9,10'.
        within (str | Sequence[str]): Areas of interest likewise: pixels outside them are
            left out.
        split (Literal['auto', 'origin', 'lists', 'random', 'grouped', 'folders', 'blocks']):
            Which scenes train, validate, test; auto: train/ val/ test/ folders, strips of
            one raster, else grouped; blocks cuts scenes into squares that go to the sets
            whole.
        block_m (float | None): Side of the squares of ``split`` blocks on the ground,
            metres; scenes that share a map share its squares.
        block_px (int | None): The same side in pixels, for scenes without a place on the
            ground too.
        buffer_m (float | None): Training pixels nearer than this to a square that validates
            or tests, and validation pixels nearer than this to one that tests, metres, are
            left out; without it and ``buffer_px``, an eighth of the side.
        buffer_px (int | None): The same distance in pixels.
        split_seed (int): Seed of the random and grouped splits, of blocks and of folds.
        folds (int | None): Number of folds: every scene is a test scene once, all models
            are trained for each fold; else one split.
        lists (path | None): Folder with train.txt, val.txt (or crossvali.txt) and test.txt,
            one file name a line; for ``split`` lists.
        groups (str): Which scenes belong together: auto (groups.csv in the data folder,
            else folders and pixels), pixels, folders, file (groups.csv), none, or a
            distance: km:20 joins georeferenced scenes that lie less than 20 km apart.
        snap_colours (int): Mask colours that are not a class become the nearest class up to
            this difference in each channel, grey levels.
        skip_bad (bool): Leave out scenes with errors and list them in dataset.json; by
            default the first one stops.
        block (int): Side of the blocks that one large raster is cut into, in pixels.
        align (bool): Bring labels that lie on another grid onto their image's by nearest
            neighbour; without it they are refused.
        zero_is_nodata (bool | None): Image pixels that are 0 in every band are no data;
            False: they are dark ground; None: no data in rasters without nodata value, mask
            and alpha.
        cache (path | None): Folder for decoded scenes; by default $LEVELGROUND_CACHE, else
            levelground in the user's cache folder.
        download (Literal['kaggle'] | None): Fetch DeepGlobe with kagglehub first, where you
            have access.
    Returns:
        The record as written.
    Raises:
        LevelgroundError: A file is wrong, the scenes cannot be split as asked, or another process writes there.
    """

def report(
    study: str | PathLike[str],
    *,
    out: str | PathLike[str] | None = None,
    figures: Literal["png", "svg", "pdf"] | Sequence[Literal["png", "svg", "pdf"]] = ("png",),
) -> Path:
    r"""Draw a comparison as one offline page and as pictures: PNG, SVG or PDF.

    Args:
        study (path): Study folder with comparison.json, or the file itself; runs and data
            set are looked for beside it.
        out (path | None): Folder for report.html and figures/; without it, the folder of
            the comparison.
        figures (Literal['png', 'svg', 'pdf'] | Sequence[Literal['png', 'svg', 'pdf']]):
            Formats of the pictures in figures/, any of png, svg and pdf; without a format
            none is drawn.
    Returns:
        The page.
    Raises:
        RecordError: There is no comparison, or it is damaged.
        DiskError: The page or a picture cannot be written.
    """

def serve(
    models: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    rasters: str | PathLike[str] | None = None,
    out: str | PathLike[str] = "served",
    host: str = "127.0.0.1",
    port: int = 8765,
    token: str | None = None,
    max_upload_mb: float = 2048.0,
    waiting: int = 8,
    threads: int | None = None,
    code: str | Sequence[str] = (),
) -> Path:
    r"""Serve a page on which maps by one to four models are made and compared; for this machine unless told otherwise.

    Args:
        models (path | Sequence[path]): Study folders, all of whose models are offered, run
            folders, folders with config.json, or .onnx files.
        rasters (path | None): Folder of rasters to choose from; without it, rasters are
            uploaded.
        out (path): Folder of the maps; unfinished ones that an earlier server left there
            are taken up again.
        host (str): Address to listen on; one that other machines reach asks for ``token``.
        port (int): Port to listen on; 0 takes a free one.
        token (str | None): Secret that clients send, as a header 'Authorization: Bearer
            TOKEN' or once as ?token=TOKEN.
        max_upload_mb (float): Largest upload, MB.
        waiting (int): How many maps may wait; more are refused until one is finished.
        threads (int | None): Threads of the CPU for the prediction.
        code (str | Sequence[str]): Code of runs whose networks are your own,
            FILE.py:FUNCTION each; it runs only where it is named.
    Returns:
        The folder of the maps.
    Raises:
        ConfigError: The extra is not installed, an address that others reach has no token, or the port is taken.
        ModelError: A path holds no model.
        BusyError: Another server has the folder of the maps.
    """

def study(
    data: str | PathLike[str] | None = None,
    *,
    out: str | PathLike[str] = "study",
    layout: Literal["auto", "kaggle", "folders", "index", "geotiff", "raster"] = "auto",
    images: str | None = None,
    labels: str | None = None,
    legend: str | PathLike[str] | None = None,
    label_nodata: int | Sequence[int] = (),
    bands: str | Sequence[str] = (),
    label_field: str | None = None,
    label_outside: str | None = None,
    all_touched: bool = False,
    exclude: str | Sequence[str] = (),
    within: str | Sequence[str] = (),
    split: Literal["auto", "origin", "lists", "random", "grouped", "folders", "blocks"] = "auto",
    block_m: float | None = None,
    block_px: int | None = None,
    buffer_m: float | None = None,
    buffer_px: int | None = None,
    split_seed: int = 0,
    folds: int | None = None,
    lists: str | PathLike[str] | None = None,
    groups: str = "auto",
    snap_colours: int = 0,
    skip_bad: bool = False,
    block: int = 256,
    align: bool = False,
    zero_is_nodata: bool | None = None,
    cache: str | PathLike[str] | None = None,
    download: Literal["kaggle"] | None = None,
    archs: str | Sequence[str] = ("pspnet", "unet", "fpn"),
    seeds: int | Sequence[int] = (0,),
    twins: bool = False,
    metric: str = "official.miou",
    delta: float = 0.01,
    budgets: float | Sequence[float] = (1.0,),
    init: str | Sequence[str] = (),
    recipe_for: str | Sequence[str] = (),
    figures: Literal["png", "svg", "pdf"] | Sequence[Literal["png", "svg", "pdf"]] = ("png",),
    recipe: str | PathLike[str] | Recipe = "default",
    encoder: str = "tu-tf_efficientnet_lite0",
    encoder_weights: str = "auto",
    outputs: Literal["counted", "all"] = "counted",
    tile: int = 512,
    halo: int = 56,
    batch: int = 8,
    default_epochs: float = 5.0,
    optimiser: Literal["adamw", "adam"] = "adamw",
    lr: float = 0.002,
    encoder_lr_factor: float = 0.2,
    weight_decay: float = 0.01,
    schedule: Literal["cosine", "constant"] = "cosine",
    warmup: float = 0.05,
    clip: float = 1.0,
    loss: Literal["ce", "dice", "focal", "ce+dice", "focal+dice", "smp-dice"] = "ce+dice",
    class_weights: Literal["none", "sqrt", "inverse"] = "none",
    scale_min: float = 0.5,
    scale_max: float = 1.5,
    d4: bool = True,
    colour: float = 0.2,
    normalise: Literal["weights", "data", "none"] = "weights",
    freeze_encoder_children: int = 0,
    select: Literal["val_miou", "val_loss", "last"] = "val_miou",
    select_groups: int = 3,
    average: float = 0.0,
    validations: int = 5,
    validation_share: float = 0.25,
    sanity_check: bool = False,
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    workers: int | None = None,
    processes: int | None = None,
    deterministic: bool = False,
    save_every: float = 60.0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    threads: int | None = None,
    cluster: str | None = None,
    cpus_per_run: int | None = None,
    gpus_per_run: float | None = None,
    track: str | None = None,
) -> Comparison:
    r"""Prepare, train every architecture and seed, evaluate, compare and report; finished parts are not repeated.

    Args:
        data (path | None): Folder with the scenes; may be left out with ``download``.
        out (path): Study folder to create or to go on with.
        layout (Literal['auto', 'kaggle', 'folders', 'index', 'geotiff', 'raster']): How the
            folder is laid out; auto detects the layout and prints it.
        images (str | None): Pattern of the images below ``data``, such as
            'S2Hand/{id}_S2Hand.tif'; given together with ``labels``.
        labels (str | None): Pattern of the masks, such as 'LabelHand/{id}_LabelHand.tif';
            what is in braces, or else the wildcards * and **/, must be the same in both.
        legend (path | None): Legend file (TOML, QML, CLR, DBF, CSV) or the name of a
            shipped one (see levelground legends); by default legend.toml in the data
            folder, else what the layout implies, else names and colours that lie beside the
            masks.
        label_nodata (int | Sequence[int]): Values of index masks that are no data, beside
            those that the legend and the files name, such as 0 or -1.
        bands (str | Sequence[str]): Bands that are files of their own, by the part of the
            file name that tells them, such as B02 B03 B04 B08.
        label_field (str | None): Field of the polygons of a GeoPackage, GeoJSON or
            shapefile that holds the class; else found by its name.
        label_outside (str | None): Class of the pixels outside all polygons, a name or
            value of the legend; without it, they are no data.
        all_touched (bool): Draw every pixel that a polygon touches, not only those whose
            centre it holds.
        exclude (str | Sequence[str]): Layers whose pixels are left out like any without
            data: PATTERN of vector files or of rasters (all but 0), or PATTERN=VALUES, such
            as 'scl/*.tif=3,8,9,10'.
        within (str | Sequence[str]): Areas of interest likewise: pixels outside them are
            left out.
        split (Literal['auto', 'origin', 'lists', 'random', 'grouped', 'folders', 'blocks']):
            Which scenes train, validate, test; auto: train/ val/ test/ folders, strips of
            one raster, else grouped; blocks cuts scenes into squares that go to the sets
            whole.
        block_m (float | None): Side of the squares of ``split`` blocks on the ground,
            metres; scenes that share a map share its squares.
        block_px (int | None): The same side in pixels, for scenes without a place on the
            ground too.
        buffer_m (float | None): Training pixels nearer than this to a square that validates
            or tests, and validation pixels nearer than this to one that tests, metres, are
            left out; without it and ``buffer_px``, an eighth of the side.
        buffer_px (int | None): The same distance in pixels.
        split_seed (int): Seed of the random and grouped splits, of blocks and of folds.
        folds (int | None): Number of folds: every scene is a test scene once, all models
            are trained for each fold; else one split.
        lists (path | None): Folder with train.txt, val.txt (or crossvali.txt) and test.txt,
            one file name a line; for ``split`` lists.
        groups (str): Which scenes belong together: auto (groups.csv in the data folder,
            else folders and pixels), pixels, folders, file (groups.csv), none, or a
            distance: km:20 joins georeferenced scenes that lie less than 20 km apart.
        snap_colours (int): Mask colours that are not a class become the nearest class up to
            this difference in each channel, grey levels.
        skip_bad (bool): Leave out scenes with errors and list them in dataset.json; by
            default the first one stops.
        block (int): Side of the blocks that one large raster is cut into, in pixels.
        align (bool): Bring labels that lie on another grid onto their image's by nearest
            neighbour; without it they are refused.
        zero_is_nodata (bool | None): Image pixels that are 0 in every band are no data;
            False: they are dark ground; None: no data in rasters without nodata value, mask
            and alpha.
        cache (path | None): Folder for decoded scenes; by default $LEVELGROUND_CACHE, else
            levelground in the user's cache folder.
        download (Literal['kaggle'] | None): Fetch DeepGlobe with kagglehub first, where you
            have access.
        archs (str | Sequence[str]): Architectures: unet unetplusplus fpn pspnet deeplabv3
            deeplabv3plus linknet manet pan upernet segformer dpt; or FILE.py:FUNCTION for a
            network of your own, hf:FOLDER_OR_NAME for one of transformers.
        seeds (int | Sequence[int]): Seeds: each architecture is trained once with each. Two
            or more let verdicts speak of architectures.
        twins (bool): Negative control: train each architecture under a second name too,
            with other seeds.
        metric (str): The metric that verdicts are about, named before results are seen:
            SCORING.MEASURE, such as kept.miou.
        delta (float): Differences smaller than this do not matter; verdicts of equality
            mean it.
        budgets (float | Sequence[float]): Shares of the budget: every architecture and seed
            is also trained at these, each with a full schedule of its own; 1, the whole
            budget, is always among them.
        init (str | Sequence[str]): Whole networks to start from, one for each architecture:
            runs, folders or weights, as train ``init`` takes them.
        recipe_for (str | Sequence[str]): Recipe fields of single architectures, ARCH=FILE
            each, such as unet=study/tune/unet.toml that levelground tune wrote; all other
            fields are the recipe's.
        figures (Literal['png', 'svg', 'pdf'] | Sequence[Literal['png', 'svg', 'pdf']]):
            Formats of the pictures in figures/, any of png, svg and pdf; without a format
            none is drawn.
        recipe (path | Recipe): Shipped recipe (default, origin) or the path of a TOML file;
            flags given beside it override its fields.
        encoder (str): Encoder, by the name that segmentation_models_pytorch gives it
            (tu-NAME for timm's).
        encoder_weights (str): Where encoder weights come from: none, package (carried by an
            installed package), imagenet (the hub, or its local cache), the path of a file
            or folder, or auto (package where there is one, else imagenet).
        outputs (Literal['counted', 'all']): Classes that get an output of the network: the
            counted ones, or all of the legend.
        tile (int): Side of the training crop and of the inference tile, px, a multiple of
            32; 0 takes whole scenes.
        halo (int): Half of the overlap of neighbouring inference tiles, px.
        batch (int): Crops in a training step.
        default_epochs (float): Budget in epochs where none is given; one epoch sees as many
            pixels as the training scenes hold.
        optimiser (Literal['adamw', 'adam']): Optimiser.
        lr (float): Highest learning rate of the decoder, and of an encoder without weights.
        encoder_lr_factor (float): Learning rate of an encoder with weights, as a factor of
            lr.
        weight_decay (float): Weight decay of matrices and kernels; biases and normalisation
            layers have none.
        schedule (Literal['cosine', 'constant']): Course of the learning rate after the
            warm-up.
        warmup (float): Share of the steps in which the learning rate rises from zero.
        clip (float): Largest norm of the gradient; 0 leaves it as it is.
        loss (Literal['ce', 'dice', 'focal', 'ce+dice', 'focal+dice', 'smp-dice']): Loss;
            smp-dice is segmentation_models_pytorch's own, which gives 0 to classes absent
            from the batch.
        class_weights (Literal['none', 'sqrt', 'inverse']): Weights of classes in
            cross-entropy and focal loss, from their measured shares.
        scale_min (float): Smallest side of a random crop before it is resized to the tile,
            as a factor of the tile.
        scale_max (float): Largest side of a random crop before it is resized to the tile,
            as a factor of the tile.
        d4 (bool): Turn and flip crops at random (the eight symmetries of the square).
        colour (float): Strength of random brightness, contrast and band gains; 0 leaves
            colours as they are.
        normalise (Literal['weights', 'data', 'none']): Band means and deviations that
            inputs are normalised by: those that the encoder weights were trained with,
            those of the training scenes, or none (values 0 to 1). Encoders without weights
            and imagery other than uint8 take the scenes'.
        freeze_encoder_children (int): Freeze encoder children [:n] as Python slices; -2
            freezes all but the last two, 0 none.
        select (Literal['val_miou', 'val_loss', 'last']): Which weights are kept: best on
            validation by mIoU or by loss, or the last.
        select_groups (int): Fewest groups of validation scenes that can tell which weights
            are best; with fewer, or where validation lacks a class of the training scenes,
            the last weights are kept. 0 lets any validation choose.
        average (float): Share of the run, at its end, over whose steps weights are
            averaged; the averages are validated and kept. 0 keeps the weights of single
            steps.
        validations (int): How often the validation scenes are scored, evenly over the
            steps; 0 does it at the end of every epoch.
        validation_share (float): Largest work of all validations as a share of the
            training's: where the validation scenes hold more, a sample of their windows is
            scored, the same for every model. 1 scores them whole.
        sanity_check (bool): Train one epoch on two scenes first, thrown away, to fail
            early.
        steps (int | None): Optimiser steps of each run.
        epochs (float | None): Epochs of each run; one sees as many pixels as the training
            scenes hold.
        minutes (float | None): Minutes of each run, validations and saved states included:
            the learning rate follows the share of the time that is used, and training ends
            when it is used up.
        workers (int | None): Loader processes; without it, none on a CPU and up to 8 beside
            a GPU. They change no sample.
        processes (int | None): Processes that share each batch, one device each; without
            it, one, or as many as torchrun started.
        deterministic (bool): On a GPU, only algorithms that give the same bits every time:
            slower. A CPU always does.
        save_every (float): Longest time between two saved states, seconds.
        device (Literal['auto', 'cpu', 'cuda', 'mps']): Where to compute; auto takes CUDA,
            then MPS, then the CPU.
        precision (Literal['auto', 'fp32', 'bf16']): Precision of multiplications; auto
            takes bf16 where the hardware has it.
        threads (int | None): CPU threads; without it, all cores. Other numbers of threads
            give other last bits of the weights.
        cluster (str | None): Where each run is a job of its own: local:N (processes of this
            machine), ray or ray:HOST:PORT (a running Ray cluster, extra 'cluster'), slurm
            or slurm:partition=gpu,time=4:00:00 (Slurm with sbatch's options, extra
            'cluster'); None runs them here, one after the other.
        cpus_per_run (int | None): CPUs, and so threads, of each job; without it,
            ``threads``, else the cores shared out under local:N, else 1, or 4 for each GPU.
        gpus_per_run (float | None): GPUs of each job; .5 puts two on one GPU (Ray and
            local:N). Without it, none under Ray and Slurm, and under local:N leaves all
            jobs all GPUs.
        track (str | None): Send curves, scores and verdicts to a tracker while the study
            runs, from a process beside it: tensorboard, tensorboard:FOLDER, mlflow:URI or
            mlflow, as levelground track takes them.
    Returns:
        The comparison, on disk in the study's folder beside its tables, figures and ``report.html``.
    Raises:
        LevelgroundError: Something cannot be done; what is finished stays.
    """

def track(
    study: str | PathLike[str],
    *,
    to: str | None = None,
    follow: bool = False,
) -> int:
    r"""Send the curves, scores and verdicts of a study to TensorBoard or MLflow, every step once.

    Args:
        study (path): Study folder, of a study that runs, was stopped or is finished, on a
            cluster or not.
        to (str | None): Where to: tensorboard (event files in STUDY/tracking/tensorboard),
            tensorboard:FOLDER, mlflow:URI (a server such as mlflow:http://127.0.0.1:5000),
            or mlflow (the server that MLFLOW_TRACKING_URI names).
        follow (bool): Go on until every run has ended and no command holds the study,
            through stops and resumes.
    Returns:
        How many points of curves were sent.
    Raises:
        ConfigError: There is no such tracker, it is not installed, or it does not answer.
        RecordError: There is no study in the folder.
    """

def train(
    study: str | PathLike[str] | None = None,
    *,
    arch: str | None = None,
    seed: int | None = None,
    init: str | None = None,
    resume: str | PathLike[str] | None = None,
    recipe: str | PathLike[str] | Recipe = "default",
    encoder: str = "tu-tf_efficientnet_lite0",
    encoder_weights: str = "auto",
    outputs: Literal["counted", "all"] = "counted",
    tile: int = 512,
    halo: int = 56,
    batch: int = 8,
    default_epochs: float = 5.0,
    optimiser: Literal["adamw", "adam"] = "adamw",
    lr: float = 0.002,
    encoder_lr_factor: float = 0.2,
    weight_decay: float = 0.01,
    schedule: Literal["cosine", "constant"] = "cosine",
    warmup: float = 0.05,
    clip: float = 1.0,
    loss: Literal["ce", "dice", "focal", "ce+dice", "focal+dice", "smp-dice"] = "ce+dice",
    class_weights: Literal["none", "sqrt", "inverse"] = "none",
    scale_min: float = 0.5,
    scale_max: float = 1.5,
    d4: bool = True,
    colour: float = 0.2,
    normalise: Literal["weights", "data", "none"] = "weights",
    freeze_encoder_children: int = 0,
    select: Literal["val_miou", "val_loss", "last"] = "val_miou",
    select_groups: int = 3,
    average: float = 0.0,
    validations: int = 5,
    validation_share: float = 0.25,
    sanity_check: bool = False,
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    threads: int | None = None,
    workers: int | None = None,
    processes: int | None = None,
    deterministic: bool = False,
    save_every: float = 60.0,
    track: str | None = None,
) -> Run:
    r"""Train one architecture on a prepared study, or resume a run that was stopped.

    Args:
        study (path | None): Study folder that levelground prepare made; not needed with
            ``resume``.
        arch (str | None): Architecture: unet unetplusplus fpn pspnet deeplabv3
            deeplabv3plus linknet manet pan upernet segformer dpt; or FILE.py:FUNCTION for a
            network of your own, hf:FOLDER_OR_NAME for one of transformers.
        seed (int | None): Seed of the initial weights and of every crop; by default 0.
        init (str | None): Whole network to start from: a run, a folder with a model, or
            weights of any kind that adopt reads, PATH or PATH::PART; brings architecture
            and encoder. Outputs of other classes start anew. The origin study's name for it
            is load_from_checkpoint.
        resume (path | None): Run folder to go on with, exactly as its card says; nothing
            else need be given.
        recipe (path | Recipe): Shipped recipe (default, origin) or the path of a TOML file;
            flags given beside it override its fields.
        encoder (str): Encoder, by the name that segmentation_models_pytorch gives it
            (tu-NAME for timm's).
        encoder_weights (str): Where encoder weights come from: none, package (carried by an
            installed package), imagenet (the hub, or its local cache), the path of a file
            or folder, or auto (package where there is one, else imagenet).
        outputs (Literal['counted', 'all']): Classes that get an output of the network: the
            counted ones, or all of the legend.
        tile (int): Side of the training crop and of the inference tile, px, a multiple of
            32; 0 takes whole scenes.
        halo (int): Half of the overlap of neighbouring inference tiles, px.
        batch (int): Crops in a training step.
        default_epochs (float): Budget in epochs where none is given; one epoch sees as many
            pixels as the training scenes hold.
        optimiser (Literal['adamw', 'adam']): Optimiser.
        lr (float): Highest learning rate of the decoder, and of an encoder without weights.
        encoder_lr_factor (float): Learning rate of an encoder with weights, as a factor of
            lr.
        weight_decay (float): Weight decay of matrices and kernels; biases and normalisation
            layers have none.
        schedule (Literal['cosine', 'constant']): Course of the learning rate after the
            warm-up.
        warmup (float): Share of the steps in which the learning rate rises from zero.
        clip (float): Largest norm of the gradient; 0 leaves it as it is.
        loss (Literal['ce', 'dice', 'focal', 'ce+dice', 'focal+dice', 'smp-dice']): Loss;
            smp-dice is segmentation_models_pytorch's own, which gives 0 to classes absent
            from the batch.
        class_weights (Literal['none', 'sqrt', 'inverse']): Weights of classes in
            cross-entropy and focal loss, from their measured shares.
        scale_min (float): Smallest side of a random crop before it is resized to the tile,
            as a factor of the tile.
        scale_max (float): Largest side of a random crop before it is resized to the tile,
            as a factor of the tile.
        d4 (bool): Turn and flip crops at random (the eight symmetries of the square).
        colour (float): Strength of random brightness, contrast and band gains; 0 leaves
            colours as they are.
        normalise (Literal['weights', 'data', 'none']): Band means and deviations that
            inputs are normalised by: those that the encoder weights were trained with,
            those of the training scenes, or none (values 0 to 1). Encoders without weights
            and imagery other than uint8 take the scenes'.
        freeze_encoder_children (int): Freeze encoder children [:n] as Python slices; -2
            freezes all but the last two, 0 none.
        select (Literal['val_miou', 'val_loss', 'last']): Which weights are kept: best on
            validation by mIoU or by loss, or the last.
        select_groups (int): Fewest groups of validation scenes that can tell which weights
            are best; with fewer, or where validation lacks a class of the training scenes,
            the last weights are kept. 0 lets any validation choose.
        average (float): Share of the run, at its end, over whose steps weights are
            averaged; the averages are validated and kept. 0 keeps the weights of single
            steps.
        validations (int): How often the validation scenes are scored, evenly over the
            steps; 0 does it at the end of every epoch.
        validation_share (float): Largest work of all validations as a share of the
            training's: where the validation scenes hold more, a sample of their windows is
            scored, the same for every model. 1 scores them whole.
        sanity_check (bool): Train one epoch on two scenes first, thrown away, to fail
            early.
        steps (int | None): Optimiser steps of each run.
        epochs (float | None): Epochs of each run; one sees as many pixels as the training
            scenes hold.
        minutes (float | None): Minutes of each run, validations and saved states included:
            the learning rate follows the share of the time that is used, and training ends
            when it is used up.
        device (Literal['auto', 'cpu', 'cuda', 'mps']): Where to compute; auto takes CUDA,
            then MPS, then the CPU.
        precision (Literal['auto', 'fp32', 'bf16']): Precision of multiplications; auto
            takes bf16 where the hardware has it.
        threads (int | None): CPU threads; without it, all cores. Other numbers of threads
            give other last bits of the weights.
        workers (int | None): Loader processes; without it, none on a CPU and up to 8 beside
            a GPU. They change no sample.
        processes (int | None): Processes that share each batch, one device each; without
            it, one, or as many as torchrun started.
        deterministic (bool): On a GPU, only algorithms that give the same bits every time:
            slower. A CPU always does.
        save_every (float): Longest time between two saved states, seconds.
        track (str | None): Send curves to a tracker while the run is trained, from a
            process beside it: tensorboard, tensorboard:FOLDER, mlflow:URI or mlflow, as
            levelground track takes them.
    Returns:
        The finished run.
    Raises:
        LevelgroundError: The study is not prepared, the architecture cannot be trained, or a flag contradicts the run.
    """

def tune(
    study: str | PathLike[str],
    *,
    space: str | PathLike[str] | None = None,
    archs: str | Sequence[str] = ("pspnet", "unet", "fpn"),
    trials: int = 30,
    steps: int = 200,
    seed: int = 0,
    reruns: int = 2,
    out: str | PathLike[str] | None = None,
    recipe: str | PathLike[str] | Recipe = "default",
    encoder: str = "tu-tf_efficientnet_lite0",
    encoder_weights: str = "auto",
    outputs: Literal["counted", "all"] = "counted",
    tile: int = 512,
    halo: int = 56,
    batch: int = 8,
    default_epochs: float = 5.0,
    optimiser: Literal["adamw", "adam"] = "adamw",
    lr: float = 0.002,
    encoder_lr_factor: float = 0.2,
    weight_decay: float = 0.01,
    schedule: Literal["cosine", "constant"] = "cosine",
    warmup: float = 0.05,
    clip: float = 1.0,
    loss: Literal["ce", "dice", "focal", "ce+dice", "focal+dice", "smp-dice"] = "ce+dice",
    class_weights: Literal["none", "sqrt", "inverse"] = "none",
    scale_min: float = 0.5,
    scale_max: float = 1.5,
    d4: bool = True,
    colour: float = 0.2,
    normalise: Literal["weights", "data", "none"] = "weights",
    freeze_encoder_children: int = 0,
    select: Literal["val_miou", "val_loss", "last"] = "val_miou",
    select_groups: int = 3,
    average: float = 0.0,
    validations: int = 5,
    validation_share: float = 0.25,
    sanity_check: bool = False,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    threads: int | None = None,
    workers: int | None = None,
    processes: int | None = None,
    deterministic: bool = False,
    save_every: float = 60.0,
    cluster: str | None = None,
    cpus_per_run: int | None = None,
    gpus_per_run: float | None = None,
) -> list[Path]:
    r"""Tune the recipe of each architecture: equal space, trials and budget, on validation scenes only.

    Args:
        study (path): Study folder that levelground prepare made.
        space (path | None): What trials may choose: a TOML file with a list of values or
            {low, high, log} for each recipe field that is free.
        archs (str | Sequence[str]): Architectures, as study ``archs`` takes them.
        trials (int): Trials of each architecture.
        steps (int): Training steps of each trial.
        seed (int): Seed of the proposals and of the trials' training.
        reruns (int): How often the chosen trial is trained again, each time with another
            seed: by as much lower as those score, the best of many trials is optimistic.
        out (path | None): Folder of the journal and of the recipe files; without it,
            STUDY/tune.
        recipe (path | Recipe): Shipped recipe (default, origin) or the path of a TOML file;
            flags given beside it override its fields.
        encoder (str): Encoder, by the name that segmentation_models_pytorch gives it
            (tu-NAME for timm's).
        encoder_weights (str): Where encoder weights come from: none, package (carried by an
            installed package), imagenet (the hub, or its local cache), the path of a file
            or folder, or auto (package where there is one, else imagenet).
        outputs (Literal['counted', 'all']): Classes that get an output of the network: the
            counted ones, or all of the legend.
        tile (int): Side of the training crop and of the inference tile, px, a multiple of
            32; 0 takes whole scenes.
        halo (int): Half of the overlap of neighbouring inference tiles, px.
        batch (int): Crops in a training step.
        default_epochs (float): Budget in epochs where none is given; one epoch sees as many
            pixels as the training scenes hold.
        optimiser (Literal['adamw', 'adam']): Optimiser.
        lr (float): Highest learning rate of the decoder, and of an encoder without weights.
        encoder_lr_factor (float): Learning rate of an encoder with weights, as a factor of
            lr.
        weight_decay (float): Weight decay of matrices and kernels; biases and normalisation
            layers have none.
        schedule (Literal['cosine', 'constant']): Course of the learning rate after the
            warm-up.
        warmup (float): Share of the steps in which the learning rate rises from zero.
        clip (float): Largest norm of the gradient; 0 leaves it as it is.
        loss (Literal['ce', 'dice', 'focal', 'ce+dice', 'focal+dice', 'smp-dice']): Loss;
            smp-dice is segmentation_models_pytorch's own, which gives 0 to classes absent
            from the batch.
        class_weights (Literal['none', 'sqrt', 'inverse']): Weights of classes in
            cross-entropy and focal loss, from their measured shares.
        scale_min (float): Smallest side of a random crop before it is resized to the tile,
            as a factor of the tile.
        scale_max (float): Largest side of a random crop before it is resized to the tile,
            as a factor of the tile.
        d4 (bool): Turn and flip crops at random (the eight symmetries of the square).
        colour (float): Strength of random brightness, contrast and band gains; 0 leaves
            colours as they are.
        normalise (Literal['weights', 'data', 'none']): Band means and deviations that
            inputs are normalised by: those that the encoder weights were trained with,
            those of the training scenes, or none (values 0 to 1). Encoders without weights
            and imagery other than uint8 take the scenes'.
        freeze_encoder_children (int): Freeze encoder children [:n] as Python slices; -2
            freezes all but the last two, 0 none.
        select (Literal['val_miou', 'val_loss', 'last']): Which weights are kept: best on
            validation by mIoU or by loss, or the last.
        select_groups (int): Fewest groups of validation scenes that can tell which weights
            are best; with fewer, or where validation lacks a class of the training scenes,
            the last weights are kept. 0 lets any validation choose.
        average (float): Share of the run, at its end, over whose steps weights are
            averaged; the averages are validated and kept. 0 keeps the weights of single
            steps.
        validations (int): How often the validation scenes are scored, evenly over the
            steps; 0 does it at the end of every epoch.
        validation_share (float): Largest work of all validations as a share of the
            training's: where the validation scenes hold more, a sample of their windows is
            scored, the same for every model. 1 scores them whole.
        sanity_check (bool): Train one epoch on two scenes first, thrown away, to fail
            early.
        device (Literal['auto', 'cpu', 'cuda', 'mps']): Where to compute; auto takes CUDA,
            then MPS, then the CPU.
        precision (Literal['auto', 'fp32', 'bf16']): Precision of multiplications; auto
            takes bf16 where the hardware has it.
        threads (int | None): CPU threads; without it, all cores. Other numbers of threads
            give other last bits of the weights.
        workers (int | None): Loader processes; without it, none on a CPU and up to 8 beside
            a GPU. They change no sample.
        processes (int | None): Processes that share each batch, one device each; without
            it, one, or as many as torchrun started.
        deterministic (bool): On a GPU, only algorithms that give the same bits every time:
            slower. A CPU always does.
        save_every (float): Longest time between two saved states, seconds.
        cluster (str | None): Where each run is a job of its own: local:N (processes of this
            machine), ray or ray:HOST:PORT (a running Ray cluster, extra 'cluster'), slurm
            or slurm:partition=gpu,time=4:00:00 (Slurm with sbatch's options, extra
            'cluster'); None runs them here, one after the other.
        cpus_per_run (int | None): CPUs, and so threads, of each job; without it,
            ``threads``, else the cores shared out under local:N, else 1, or 4 for each GPU.
        gpus_per_run (float | None): GPUs of each job; .5 puts two on one GPU (Ray and
            local:N). Without it, none under Ray and Slurm, and under local:N leaves all
            jobs all GPUs.
    Returns:
        The recipe file of each architecture, for ``study --recipe-for``.
    Raises:
        ConfigError: The space cannot be searched, or Optuna is not installed.
        UnfinishedError: All trials of an architecture failed, or a job of a cluster; what is done stays.
        LevelgroundError: The study is not prepared, or an architecture cannot be trained.
    """

def _drawn_by(name: str) -> Callable[..., Any]: ...
