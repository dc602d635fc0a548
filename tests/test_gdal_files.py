"""What GDAL opens leads to no network and out of no folder, and nothing is waited for."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import rasterio
from builders.scene_files import noise, save_raster

from levelground.errors import SceneError
from levelground.imagery.gdal_files import check_raster, check_vector, open_raster

SERVICE = (
    "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/${z}/${x}/${y}.png</ServerUrl></Service></GDAL_WMS>"
)


def vrt(source: str, tag: str = "SourceFilename", relative: int = 1) -> str:
    """A virtual raster of one band."""
    named = f'<SimpleSource><{tag} relativeToVRT="{relative}">{source}</{tag}><SourceBand>1</SourceBand></SimpleSource>'
    band = f'<VRTRasterBand dataType="Byte" band="1">{named}</VRTRasterBand>'
    return f'<VRTDataset rasterXSize="9" rasterYSize="9">{band}</VRTDataset>'


def with_key(tag: str, attribute: str, key: str, value: str) -> str:
    """A virtual raster of a sound source, and a setting that GDAL takes for a file."""
    return vrt("sound.png").replace("</VRTRaster", f'<{tag} {attribute}="{key}">{value}</{tag}></VRTRaster')


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (SERVICE, "a description, not pixels"),
        (vrt("/vsicurl/http://127.0.0.1:9/x.tif"), "is not a file on this machine"),
        (vrt("http://127.0.0.1:9/x.tif"), "is not a file on this machine"),
        (vrt("&lt;GDAL_WMS/&gt;"), "is not a file on this machine"),
        (vrt("../x.tif"), "leaves its folder"),
        (vrt("/etc/hostname"), "leaves its folder"),
        (vrt("service.tif"), "a description, not pixels"),
        (vrt("/etc/hostname", "SourceDataset"), "leaves its folder"),
        (vrt("nested.vrt"), "leaves its folder"),
        (vrt("data/b.png", relative=0), "leaves its folder"),
        (vrt("index.gti.gpkg"), "is not a raster that is read here"),
        (vrt("sound.tif") + "<!-- -->", "reads 'sound.tif', which is not"),
        (with_key("Argument", "name", "gain_dataset_filename_1", "../x.tif"), "leaves its folder"),
        (with_key("MDI", "key", "X_DATASET", "GTIFF_DIR:1:../x.tif"), "leaves its folder"),
        (with_key("MDI", "key", "OVERVIEW_FILE", "index.gti.gpkg"), "is not a raster that is read here"),
        (vrt("v9.vrt"), "deeper than 8"),
        (vrt("w0.vrt"), "reads more than 1000000 files"),
        ("<VRTDataset", "is damaged"),
        ("<!DOCTYPE a><VRTDataset/>", "declares entities"),
    ],
)
def test_rasters_that_lead_elsewhere_are_refused(content: str, text: str, tmp_path: Path) -> None:
    """The network, other folders and services, whatever the file is called; through other files too."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "service.tif").write_text(SERVICE)
    (folder / "nested.vrt").write_text(vrt("../x.tif"))
    (tmp_path / "x.tif").write_bytes(b"II*\0")
    (folder / "sound.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "sound.tif").write_bytes(b"anything")
    (folder / "index.gti.gpkg").write_bytes(b"SQLite format 3\0")
    (folder / "data").mkdir()
    (folder / "data" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "v0.vrt").write_text(vrt("sound.png"))
    for n in range(1, 10):
        (folder / f"v{n}.vrt").write_text(vrt(f"v{n - 1}.vrt"))
    for n in range(4):
        many = vrt("sound.png" if n == 3 else f"w{n + 1}.vrt")
        band = many[many.index("<VRTR") : -13]
        (folder / f"w{n}.vrt").write_text(many.replace(band, band * 40))
    for name in ("b.tif", "b.vrt"):
        (folder / name).write_text(content)
        with pytest.raises(ValueError, match=text):
            check_raster(folder / name)
    (folder / "a.tif").write_bytes(b"II*\0")
    check_raster(folder / "a.tif")
    (folder / "a.tif.ovr").write_text(content)
    with pytest.raises(ValueError, match=text):
        check_raster(folder / "a.tif")


def test_a_virtual_raster_of_its_own_folder_is_taken(tmp_path: Path) -> None:
    """Its sources may lie below it."""
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "a.tif").write_bytes(b"II*\0")
    (tmp_path / "b.vrt").write_text(vrt("tiles/a.tif"))
    check_raster(tmp_path / "b.vrt")


def test_a_virtual_raster_is_known_by_its_name(tmp_path: Path) -> None:
    """Caches look for the sources of files named .vrt; one of another name, here or inside another, is refused."""
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    (tmp_path / "b.dat").write_text(vrt("a.tif"))
    (tmp_path / "c.vrt").write_text(vrt("b.dat"))
    for name in ("b.dat", "c.vrt"):
        with pytest.raises(ValueError, match=r"holds a virtual raster, and its name does not end in \.vrt"):
            check_raster(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["a.tif.ovr", "a.tif.OVR", "A.TIF.ovr", "a.tif.Msk", "a.tif.msk.ovr", "a.aux", "a.tif.aux"]
)
def test_overviews_and_masks_are_checked_whatever_the_case_of_their_names(name: str, tmp_path: Path) -> None:
    """GDAL looks for them without regard to case."""
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    check_raster(tmp_path / "a.tif")
    for content in (vrt("/vsicurl/http://127.0.0.1:9/x.tif"), SERVICE, "SQLite format 3"):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=r"not a file on|a description|not a raster"):
            check_raster(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.tif.aux.xml", "a.aux", "A.tfw", "a_RPC.TXT", "a.xml", "a.tif.OVR"])
def test_a_fifo_beside_a_raster_is_not_waited_for(name: str, tmp_path: Path) -> None:
    """GDAL opens what has the raster's name; other FIFOs do not matter."""
    save_raster(tmp_path / "a.tif", noise(8, 8))
    os.mkfifo(tmp_path / "other.tfw")
    open_raster(tmp_path / "a.tif").close()
    os.mkfifo(tmp_path / name)
    with pytest.raises(SceneError, match=f"a\\.tif: .*{name}' beside it is not a regular file"):
        open_raster(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("kind", "end"), [("shp", "qix"), ("shp", "sbn"), ("gpkg", "gpkg-journal"), ("geojson", "gfs")]
)
def test_a_fifo_beside_vectors_is_not_waited_for(kind: str, end: str, tmp_path: Path) -> None:
    """Indices of shapefiles, and what SQLite keeps beside a database."""
    starts = {"shp": b"\0\0\x27\x0a", "gpkg": b"SQLite format 3\0", "geojson": b"{}"}
    path = tmp_path / f"a.{kind}"
    path.write_bytes(starts[kind])
    os.mkfifo(tmp_path / f"other.{end}")
    check_vector(path)
    os.mkfifo(tmp_path / f"a.{end}")
    with pytest.raises(OSError, match=f"a.{end}' beside it is not a regular file"):
        check_vector(path)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW v AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r",
        "CREATE TABLE v (a INTEGER, b BLOB GENERATED ALWAYS AS (zeroblob(1000000000)) VIRTUAL)",
        "CREATE VIRTUAL TABLE v USING fts5(a)",
        "INSERT INTO gpkg_contents VALUES ('st_geometry_columns')",
    ],
)
def test_a_geopackage_that_is_computed_while_it_is_read_is_refused(statement: str, tmp_path: Path) -> None:
    """It might never end; plain tables, the index of places and views of the format itself are taken."""
    with closing(sqlite3.connect(tmp_path / "a.gpkg")) as database:
        database.execute("CREATE TABLE layer (fid INTEGER PRIMARY KEY, geom BLOB, class TEXT)")
        database.execute("CREATE VIRTUAL TABLE rtree_layer_geom USING rtree(id, minx, maxx, miny, maxy)")
        database.execute("CREATE TABLE gpkg_contents (table_name TEXT)")
        database.execute("CREATE VIEW st_geometry_columns AS SELECT table_name AS f_table_name FROM gpkg_contents")
        database.commit()
        check_vector(tmp_path / "a.gpkg")
        database.execute(statement)
        database.commit()
    with pytest.raises(ValueError, match=r"holds '(v|st_geometry_columns)', which is computed while it is read"):
        check_vector(tmp_path / "a.gpkg")


@pytest.mark.parametrize("place", ["tag", "aux.xml", "tag of its overviews"])
def test_a_raster_whose_tags_name_overviews_elsewhere_is_refused(place: str, tmp_path: Path) -> None:
    """A reduced picture of it, as the served page draws one, would be read from there."""
    path, tags = tmp_path / "a.tif", {"OVERVIEW_FILE": "/vsicurl/http://127.0.0.1:9/x.tif"}
    save_raster(path, noise(8, 8))
    target = path
    if place == "tag of its overviews":
        target = tmp_path / "a.tif.ovr"
        save_raster(target, noise(4, 4))
    if place == "aux.xml":
        text = f'<MDI key="OVERVIEW_FILE">{tags["OVERVIEW_FILE"]}</MDI>'
        (tmp_path / "a.tif.aux.xml").write_text(
            f'<PAMDataset><Metadata domain="OVERVIEWS">{text}</Metadata></PAMDataset>'
        )
    else:
        with rasterio.open(target, "r+") as raster:
            raster.update_tags(ns="OVERVIEWS", **tags)
    with pytest.raises(SceneError, match=r"its tag OVERVIEW_FILE names '/vsicurl/.+ Remove the tag"):
        open_raster(path)
