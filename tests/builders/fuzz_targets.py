"""Sound inputs of every kind, each with the command that reads it, for :mod:`builders.fuzz` to spoil."""

# ruff: noqa: E501  # a target is one line

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from builders.bad_files import kaggle, lists
from builders.scene_files import noise, random_labels, save, save_raster
from builders.study import ENCODER
from levelground.cli import main

COMPUTE = ["--device", "cpu", "--precision", "fp32", "--threads", "1"]
PREPARE = ["prepare", "--data", "data", "--out", "out", "--cache", "cache"]
SEALS = re.compile(r',\s*"(sha256|crc32)": "[0-9a-f]+"(?=\s*\})')
"""The checksum at the end of a record or of a line."""
NAMES = ("field", "built", "forest")


@dataclass(frozen=True)
class Target:
    """A kind of input.

    Attributes:
        name: What it is.
        base: A folder in which the command works.
        files: The files to spoil, one at a time, below it.
        form: Which changes it gets.
        command: The arguments.
        after: What to do when a file is spoilt.
    """

    name: str
    base: Path
    files: tuple[str, ...]
    form: str
    command: list[str]
    after: Callable[[Path], object] | None = None


def build_targets(root: Path) -> list[Target]:
    """Write all sound inputs below a folder."""
    root.mkdir(parents=True)
    return [*_data_targets(root), *_study_targets(root), *_model_targets(root)]


def _base(root: Path, name: str, build: Callable[[Path], object]) -> Path:
    folder = root / name
    folder.mkdir()
    build(folder)
    return folder


def _rasters(folder: Path, labels: str = "tif") -> None:
    """Four GeoTIFFs with labels as rasters, polygons or none."""
    for number in range(4):
        save_raster(folder / f"data/images/s{number}.tif", noise(24, 24, seed=number))
        if labels == "tif":
            save_raster(
                folder / f"data/labels/s{number}.tif", random_labels(24, 24, n_classes=3, seed=number)[..., None]
            )
        else:
            _polygons(folder / f"data/labels/s{number}.{labels}")
    if labels == "geojson":
        _polygons(folder / "data/clouds.geojson")


def _polygons(path: Path) -> None:
    """A square of each class, drawn in the coordinate system of the rasters."""
    from pyogrio.raw import read, write

    path.parent.mkdir(parents=True, exist_ok=True)
    west, north = 270877.2, 4311036.0
    squares = [
        [(west + 5 * n, north), (west + 5 * n + 5, north), (west + 5 * n + 5, north - 14), (west + 5 * n, north - 14)]
        for n in range(3)
    ]
    features = [
        {
            "type": "Feature",
            "properties": {"Class": name, "code": n},
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        }
        for n, (name, ring) in enumerate(zip(NAMES, squares, strict=True))
    ]
    crs = {"type": "name", "properties": {"name": "EPSG:26917"}}
    text = json.dumps({"type": "FeatureCollection", "crs": crs, "features": features})
    if path.suffix == ".geojson":
        path.write_text(text)
        return
    passing = path.with_name("passing.geojson")
    passing.write_text(text)
    meta, _, geometry, columns = read(passing)
    write(path, geometry, columns, meta["fields"], crs=meta["crs"], geometry_type="Polygon")
    passing.unlink()


def _indices(folder: Path) -> None:
    """Pairs of PNGs with index masks, a world file and a legend."""
    for number in range(4):
        save(folder / f"data/images/s{number}.png", noise(24, 24, seed=number))
        save(folder / f"data/masks/s{number}.png", random_labels(24, 24, n_classes=3, seed=number))
        (folder / f"data/images/s{number}.pgw").write_text("0.5\n0\n0\n-0.5\n400000.25\n5600000.75\n")
        (folder / f"data/images/s{number}.prj").write_text(
            'PROJCS["x",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
            'UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
            'PARAMETER["central_meridian",15],PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],'
            'PARAMETER["false_northing",0],UNIT["metre",1]]'
        )
    entries = (
        f'[[class]]\nindex = {n}\nname = "{name}"\ncolour = "{n}0A01E"\nvalue = {n}\n' for n, name in enumerate(NAMES)
    )
    (folder / "data/legend.toml").write_text('name = "three"\nignored = ["FFFFFF"]\n' + "".join(entries))


def _styles(folder: Path) -> None:
    """Rasters, and a style, a colour file and tables beside the masks' folder."""
    _rasters(folder)
    entries = "".join(f'<paletteEntry value="{n}" label="{name}" color="#{n}0a01e"/>' for n, name in enumerate(NAMES))
    style = f"<qgis><pipe><rasterrenderer><colorPalette>{entries}</colorPalette></rasterrenderer></pipe></qgis>"
    (folder / "style.qml").write_text(style)
    (folder / "table.clr").write_text("".join(f"{n} 10 {n} 30 255 {name}\n" for n, name in enumerate(NAMES)))
    rows = "".join(f"{n},{n},{name},1,2,{n}\n" for n, name in enumerate(NAMES))
    (folder / "table.csv").write_text("OID,Value,Class_Name,Red,Green,Blue\n" + rows)
    shutil.copyfile(folder / "style.qml", folder / "data/labels/s0.qml")


def _vrts(folder: Path) -> None:
    """Virtual rasters of band files."""
    _rasters(folder)
    for number in range(4):
        (folder / "data/raw").mkdir(exist_ok=True)
        (folder / f"data/images/s{number}.tif").rename(folder / f"data/raw/s{number}.tif")
        bands = "".join(
            f'<VRTRasterBand dataType="Byte" band="{n}"><SimpleSource><SourceFilename relativeToVRT="1">../raw/s{number}.tif'
            f"</SourceFilename><SourceBand>{n}</SourceBand></SimpleSource></VRTRasterBand>"
            for n in (1, 2, 3)
        )
        place = "<SRS>EPSG:26917</SRS><GeoTransform>270877.2, 0.6, 0, 4311036, 0, -0.6</GeoTransform>"
        text = f'<VRTDataset rasterXSize="24" rasterYSize="24">{place}{bands}</VRTDataset>'
        (folder / f"data/images/s{number}.vrt").write_text(text)


def _jp2(folder: Path) -> None:
    """JPEG 2000 images."""
    import rasterio

    _rasters(folder)
    for number in range(4):
        path = folder / f"data/images/s{number}.tif"
        with rasterio.open(path) as source:
            pixels, profile = source.read(), {"crs": source.crs, "transform": source.transform}
        path.unlink()
        with rasterio.open(
            path.with_suffix(".jp2"),
            "w",
            driver="JP2OpenJPEG",
            height=24,
            width=24,
            count=3,
            dtype="uint8",
            QUALITY="100",
            REVERSIBLE="YES",
            **profile,
        ) as raster:
            raster.write(pixels)


def _grouped(folder: Path) -> None:
    """The Kaggle layout with lists and groups."""
    kaggle(folder)
    lists("0 1 2", "3", "4 5")(folder)
    (folder / "mine.toml").write_text('lr = 5e-4\nbatch = 3\nloss = "focal+dice"\nd4 = true\nencoder = "resnet18"\n')
    (folder / "data/groups.csv").write_text("id,group\n" + "".join(f"{n},g{n % 3}\n" for n in range(6)))


def _data_targets(root: Path) -> list[Target]:
    """What ``prepare`` reads."""
    pairs = _base(root, "pairs", _grouped)
    tifs, indices = _base(root, "tifs", _rasters), _base(root, "indices", _indices)
    styles, vrts, jp2 = _base(root, "styles", _styles), _base(root, "vrts", _vrts), _base(root, "jp2", _jp2)
    vectors = {
        end: _base(root, end, lambda folder, end=end: _rasters(folder, end)) for end in ("geojson", "gpkg", "shp")
    }
    parts = tuple(f"data/labels/s1.{end}" for end in ("shp", "shx", "dbf", "prj", "cpg"))
    parts = tuple(part for part in parts if (vectors["shp"] / part).exists())
    legend = [*PREPARE, "--legend"]
    return [
        Target("jpeg", pairs, ("data/1_sat.jpg",), "binary", PREPARE),
        Target("png", pairs, ("data/1_mask.png",), "binary", PREPARE),
        Target("png skipped", pairs, ("data/1_mask.png", "data/2_sat.jpg"), "binary", [*PREPARE, "--skip-bad"]),
        Target("lists", pairs, ("lists/train.txt", "lists/test.txt"), "text", [*PREPARE, "--lists", "lists"]),
        Target("groups", pairs, ("data/groups.csv",), "text", [*PREPARE, "--groups", "file"]),
        Target("tiff", tifs, ("data/images/s1.tif",), "binary", PREPARE),
        Target("tiff labels", tifs, ("data/labels/s1.tif",), "binary", PREPARE),
        Target("legend", indices, ("data/legend.toml",), "text", PREPARE),
        Target(
            "world file", indices, ("data/images/s1.pgw", "data/images/s1.prj"), "text", [*PREPARE, "--groups", "none"]
        ),
        Target("index png", indices, ("data/masks/s1.png",), "binary", PREPARE),
        Target("style", styles, ("style.qml",), "xml", [*legend, "style.qml"]),
        Target("style beside", styles, ("data/labels/s0.qml",), "xml", PREPARE),
        Target("colour file", styles, ("table.clr",), "text", [*legend, "table.clr"]),
        Target("table", styles, ("table.csv",), "text", [*legend, "table.csv"]),
        Target("vrt", vrts, ("data/images/s1.vrt",), "xml", PREPARE),
        Target("jp2", jp2, ("data/images/s1.jp2",), "binary", PREPARE),
        Target("geojson", vectors["geojson"], ("data/labels/s1.geojson",), "json", PREPARE),
        Target("geopackage", vectors["gpkg"], ("data/labels/s1.gpkg",), "binary", PREPARE),
        Target("shapefile", vectors["shp"], parts, "binary", PREPARE),
        Target(
            "exclusion", vectors["geojson"], ("data/clouds.geojson",), "json", [*PREPARE, "--exclude", "clouds.geojson"]
        ),
        Target(
            "recipe", pairs, ("mine.toml",), "text", ["train", "nowhere", "--arch", "unet", "--recipe", "mine.toml"]
        ),
    ]


def _compared(folder: Path) -> None:
    """A study with pixels, two runs with histories and masks, and their comparison; its cache inside."""
    from builders.study import add_run, build_study
    from levelground.history import HistoryLine, append_history

    dataset = build_study(folder)
    for seed, name in enumerate(("a-s0", "b-s1")):
        run = add_run(dataset, name, seed=seed)
        lines = (
            HistoryLine(kind=kind, step=n, epoch=n / 2, train_loss=1 / n, val_miou=0.1 * n)
            for n in (1, 2)
            for kind in ("step", "val")
        )
        append_history(run.folder, lines)
    assert main(["evaluate", str(dataset.folder), *COMPUTE]) == 0
    assert main(["compare", str(dataset.folder)]) == 0
    record = dataset.folder / "dataset.json"
    record.write_text(SEALS.sub("", record.read_text()).replace(str(folder), "/ROOT"))


def _own_counts(folder: Path) -> None:
    """Let the card know the counts as they are now, so that they are read."""
    run = folder / "study/runs/a-s0"
    if (run / "counts-test.npz").is_file():
        digest = hashlib.sha256((run / "counts-test.npz").read_bytes()).hexdigest()
        text = SEALS.sub("", (run / "run.json").read_text())
        (run / "run.json").write_text(re.sub(r'("counts_sha256": ")[0-9a-f]+', rf"\g<1>{digest}", text))


def _study_targets(root: Path) -> list[Target]:
    """What ``compare``, ``report``, ``evaluate``, ``adopt`` and ``check`` read."""
    base = _base(root, "study", _compared)
    run = "study/runs/a-s0"
    preds = [str(path.relative_to(base)) for path in sorted((base / run / "preds-test").rglob("*.png"))]
    compare, report = ["compare", "study", "--allow-unlike"], ["report", "study", "--no-figures"]
    predictions = _base(root, "predictions", lambda folder: _predictions(base, folder))
    adopt = ["adopt", "--predictions", "masks", "--study", "study"]
    return [
        Target("run card", base, (f"{run}/run.json",), "json", compare),
        Target("counts", base, (f"{run}/counts-test.npz",), "archive", compare, _own_counts),
        Target("history", base, (f"{run}/history.jsonl",), "json", report),
        Target("data set", base, ("study/dataset.json",), "json", compare),
        Target("log", base, ("study/test_looks.jsonl",), "json", compare),
        Target("comparison", base, ("study/comparison.json",), "json", report),
        Target("masks", base, tuple(preds), "binary", report),
        Target(
            "hashes",
            base,
            (f"{run}/model/config.json", f"{run}/run.json", "study/dataset.json"),
            "json",
            ["check", "study"],
        ),
        Target("configuration", base, (f"{run}/model/config.json",), "json", ["evaluate", run, *COMPUTE]),
        Target("weights", base, (f"{run}/model/model.safetensors",), "binary", ["evaluate", run, *COMPUTE]),
        Target("predicted masks", predictions, ("masks/b/2.png", "masks/c/1.png"), "binary", adopt),
        Target(
            "predicted arrays",
            predictions,
            ("arrays/b/2.npy",),
            "binary",
            ["adopt", "--predictions", "arrays", "--study", "study"],
        ),
        Target(
            "predicted archives",
            predictions,
            ("zipped/b/2.npz",),
            "archive",
            ["adopt", "--predictions", "zipped", "--study", "study"],
        ),
        Target(
            "adopted history", predictions, ("log.csv",), "text", ["adopt", "--history", "log.csv", "--study", "study"]
        ),
        Target(
            "adopted JSON", predictions, ("log.json",), "json", ["adopt", "--history", "log.json", "--study", "study"]
        ),
    ]


def _predictions(study: Path, folder: Path) -> None:
    """Predictions of the test scenes as masks, arrays and archives, and histories of other tools."""
    from levelground.datasets.dataset import read_dataset

    shutil.copytree(study, folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "study/runs")
    content = (folder / "study/dataset.json").read_text()
    (folder / "study/dataset.json").write_text(content.replace("/ROOT", str(folder)))
    dataset = read_dataset(folder / "study")
    (folder / "study/dataset.json").write_text(content)
    for scene in dataset.ids("test"):
        record = dataset.scene(scene)
        classes = random_labels(record.height, record.width, n_classes=3)
        for place, end in (("masks", "png"), ("arrays", "npy"), ("zipped", "npz")):
            path = folder / place / f"{scene}.{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if end == "png":
                Image.fromarray(classes).save(path)
            elif end == "npy":
                np.save(path, classes)
            else:
                np.savez_compressed(path, classes)
    (folder / "log.csv").write_text("epoch,train_loss,val_loss,val_iou\n1,1.5,1.4,0.2\n2,1.2,1.1,0.3\n")
    (folder / "log.json").write_text(json.dumps([{"epoch": n, "train_loss": 1.5, "val_iou": 0.2} for n in (1, 2)]))


def _models(folder: Path, study: Path) -> None:
    """A run, a folder of SMP, an ONNX file, a state dict, and images to predict."""
    from builders.onnx_files import write_onnx

    shutil.copytree(study / "study/runs/a-s0", folder / "run")
    shutil.copytree(folder / "run/model", folder / "smp")
    write_onnx(folder / "net.onnx", metadata={"class_names": '{"0": "a", "1": "b"}', "resolution": "50"})
    save(folder / "in/a.png", noise(40, 40))
    save_raster(folder / "raster/a.tif", noise(40, 40))
    from safetensors.torch import load_file

    state = load_file(folder / "run/model/model.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, folder / "w.pth")
    shutil.copytree(study / "study", folder / "study", ignore=shutil.ignore_patterns("runs"))
    for name in ("data", "cache"):
        shutil.copytree(study / name, folder / name)


def _model_targets(root: Path) -> list[Target]:
    """What ``predict`` and ``adopt`` read of models and rasters."""
    base = _base(root, "models", lambda folder: _models(folder, root / "study"))
    tail = ["--out", "out", "--batch", "2", *COMPUTE]
    adopt = ["adopt", "w.pth", "--study", "study", "--arch", "linknet", "--encoder", ENCODER]
    return [
        Target("smp folder", base, ("smp/config.json",), "json", ["predict", "smp", "in/a.png", *tail]),
        Target("own metadata", base, ("smp/levelground.json",), "json", ["predict", "smp", "in/a.png", *tail]),
        Target("smp weights", base, ("smp/model.safetensors",), "binary", ["predict", "smp", "in/a.png", *tail]),
        Target("onnx", base, ("net.onnx",), "binary", ["predict", "net.onnx", "in/a.png", *tail]),
        Target("image", base, ("in/a.png",), "binary", ["predict", "net.onnx", "in/a.png", *tail]),
        Target(
            "raster",
            base,
            ("raster/a.tif",),
            "binary",
            ["predict", "net.onnx", "raster/a.tif", "--polygons", "gpkg", *tail],
        ),
        Target("state dict", base, ("w.pth",), "archive", adopt),
        Target(
            "weights adopted",
            base,
            ("run/model/model.safetensors",),
            "binary",
            ["adopt", "run/model/model.safetensors", *adopt[2:]],
        ),
    ]
