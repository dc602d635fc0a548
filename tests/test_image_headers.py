"""Headers: what is told without decoding, and each bad file with its one line."""

import html
import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
from builders.scene_files import noise, png_of_size, save, save_palette, save_raster
from PIL import Image

from levelground.errors import SceneError
from levelground.imagery.image_headers import MAX_PIXELS, ImageHeader, check_size, png_chunks, read_header


def _oriented(path: Path, orientation: int, *, order: str = "MM") -> Path:
    """A 4 × 6 JPEG (height × width) with an EXIF orientation."""
    mark = ">" if order == "MM" else "<"
    entry = struct.pack(f"{mark}HHIHH", 274, 3, 1, orientation, 0)
    block = order.encode() + struct.pack(f"{mark}HIH", 42, 8, 1) + entry + struct.pack(f"{mark}I", 0)
    return save(path, noise(4, 6), exif=b"Exif\0\0" + block)


def test_formats_are_told_by_content_not_by_suffix(tmp_path: Path) -> None:
    """A PNG named .jpg is a PNG."""
    save(tmp_path / "a.png", noise(4, 6)).rename(tmp_path / "a.jpg")
    assert read_header(tmp_path / "a.jpg") == ImageHeader("png", 4, 6, 3, "uint8")
    assert read_header(save(tmp_path / "b.jpg", noise(4, 6))) == ImageHeader("jpeg", 4, 6, 3, "uint8")
    assert read_header(save(tmp_path / "c.jpg", noise(4, 6, 1))).bands == 1
    tiff = read_header(save_raster(tmp_path / "d.tif", noise(4, 6, 4, dtype="uint16"), nodata=7))
    assert (tiff.format, tiff.height, tiff.width, tiff.bands, tiff.dtype, tiff.nodata) == ("tiff", 4, 6, 4, "uint16", 7)


def test_png_forms_are_told_apart(tmp_path: Path) -> None:
    """Palette, alpha, bits."""
    palette = read_header(save_palette(tmp_path / "p.png", np.zeros((3, 4), np.uint8), [1, 2, 3]))
    assert (palette.bands, palette.image_bands, palette.palette) == (1, 3, True)
    alpha = read_header(save(tmp_path / "a.png", noise(4, 6, 4)))
    assert (alpha.bands, alpha.image_bands, alpha.alpha) == (4, 3, True)
    assert read_header(save(tmp_path / "l.png", noise(4, 6, 1), "1")).depth == 1
    assert read_header(save(tmp_path / "h.png", noise(4, 6, 1, dtype="uint16"))).dtype == "uint16"


@pytest.mark.parametrize("order", ["MM", "II"])
def test_turned_jpeg_has_the_size_of_the_upright_image(tmp_path: Path, order: str) -> None:
    """Orientations 5 to 8 exchange height and width."""
    sizes = {o: read_header(_oriented(tmp_path / "a.jpg", o, order=order)) for o in (1, 3, 6, 8, 9)}
    assert {o: (h.height, h.width, h.orientation) for o, h in sizes.items()} == {
        1: (4, 6, 1), 3: (4, 6, 3), 6: (6, 4, 6), 8: (6, 4, 8), 9: (4, 6, 1),
    }  # fmt: skip


@pytest.mark.parametrize(
    "block", [b"", b"MM", b"XX\0*\0\0\0\x08", b"MM\0*\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x05\0"]
)
def test_unreadable_exif_is_passed_over(tmp_path: Path, block: bytes) -> None:
    """Metadata of no use does not cost the scene."""
    assert read_header(save(tmp_path / "a.jpg", noise(4, 6), exif=b"Exif\0\0" + block)).orientation == 1


def test_long_metadata_before_the_frame_is_no_obstacle(tmp_path: Path) -> None:
    """Comments of 65 kB push the frame beyond what is read first."""
    whole = save(tmp_path / "a.jpg", noise(4, 6)).read_bytes()
    comment = b"\xff\xfe" + struct.pack(">H", 65002) + b"x" * 65000
    (tmp_path / "a.jpg").write_bytes(whole[:2] + 3 * comment + whole[2:])
    assert read_header(tmp_path / "a.jpg").width == 6


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", r"a\.jpg: is empty \(0 bytes\)\. Copy the file again\.$"),
        (
            b"hello\nworld",
            r"a\.jpg: is not a JPEG, PNG or TIFF \(begins with b'hello\\nworld'\)\. Replace or convert the file\.$",
        ),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", r"a\.jpg: JPEG is truncated or damaged \(.*\)\. Copy the file again\.$"),
        (b"\x89PNG\r\n\x1a\n\0\0", r"a\.jpg: PNG is truncated after 10 bytes\. Copy the file again\.$"),
        (
            png_of_size(3, 3).replace(b"\x08\x02\0\0\0", b"\x08\x05\0\0\0"),
            r"PNG is damaged \(colour type 5, 8 bits\)\.",
        ),
        (b"II*\0nothing", r"a\.jpg: is damaged or is not a raster that can be read\. Replace the file\.$"),
        (png_of_size(0, 3), r"a\.jpg: has 0 × 3 pixels in 3 bands\. Replace the file\.$"),
        (
            png_of_size(100_000, 100_000),
            r"a\.jpg: has 100000 × 100000 pixels in 3 bands; at most 89478485 pixels are decoded at once\. "
            r"Cut it, or save it as GeoTIFF and pass --layout raster\.$",
        ),
    ],
    ids=["empty", "text", "jpeg", "png", "colour", "tiff", "nothing", "bomb"],
)
def test_bad_file_is_refused_before_decoding(tmp_path: Path, content: bytes, text: str) -> None:
    """One line that begins with the file."""
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(SceneError, match=text) as caught:
        read_header(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_cmyk_jpeg_is_refused(tmp_path: Path) -> None:
    """Inks are no bands, and their conversion depends on the printer."""
    path = save(tmp_path / "a.jpg", noise(4, 6), "CMYK")
    with pytest.raises(
        SceneError, match=r"is a (CMYK|YCCK) JPEG \(inks for print\), expected RGB or grey\. Convert it to RGB"
    ):
        read_header(path)


def test_missing_or_unreadable_file_is_one_line(tmp_path: Path) -> None:
    """The system's word stands in it."""
    with pytest.raises(
        SceneError, match=r"none\.png: cannot be read \(No such file.*\)\. Mend the file or its permissions"
    ):
        read_header(tmp_path / "none.png")
    with pytest.raises(SceneError, match=r"cannot be read \(Is a directory\)"):
        read_header(tmp_path)


def test_many_bands_count_towards_the_limit() -> None:
    """Few pixels of very many bands are too much as well."""
    check_size(Path("a.tif"), 1, MAX_PIXELS, 4)
    with pytest.raises(SceneError, match="in 60000 bands"):
        check_size(Path("a.tif"), 1000, 1000, 60_000)


def test_png_is_walked_to_its_end(tmp_path: Path) -> None:
    """Each truncation and each changed byte of a chunk is found."""
    whole = save(tmp_path / "a.png", noise(30, 30)).read_bytes()
    assert [kind for kind, _ in png_chunks(whole, Path("a.png"))] == [b"IHDR", b"IDAT", b"IEND"]
    for size in (33, 60, len(whole) - 13, len(whole) - 1):
        with pytest.raises(SceneError, match=rf"^a\.png: PNG is truncated after {size} bytes\. Copy the file again\.$"):
            list(png_chunks(whole[:size], Path("a.png")))
    flipped = bytearray(whole)
    flipped[200] ^= 1
    with pytest.raises(SceneError, match=r"^a\.png: PNG is damaged at byte 33 \(checksum\)\. Copy the file again\.$"):
        list(png_chunks(bytes(flipped), Path("a.png")))


def test_orientation_agrees_with_pillow(tmp_path: Path) -> None:
    """The same tag is read."""
    path = _oriented(tmp_path / "a.jpg", 6)
    with Image.open(path) as picture:
        assert picture.getexif()[274] == read_header(path).orientation


@pytest.mark.parametrize("ending", [".pgw", ".PGW", ".pngw", ".wld"])
def test_a_world_file_gives_an_image_its_place(tmp_path: Path, ending: str) -> None:
    """Its last two numbers are the middle of the first pixel; the system stands in a .prj or in GDAL's own file."""
    path = save(tmp_path / "a.png", noise(4, 6))
    plain = read_header(path)
    (tmp_path / f"a{ending}").write_text("0.5\n0\n0\n-0.5\n400000.25\n5599999.75\n")
    placed = read_header(path)
    assert placed.transform == (0.5, 0.0, 400000.0, 0.0, -0.5, 5600000.0)
    assert (placed.crs, placed.gsd_m) == (None, None)
    wkt = rasterio.crs.CRS.from_epsg(32633).to_wkt()
    (tmp_path / "a.png.aux.xml").write_text(f"<PAMDataset><SRS>{html.escape(wkt)}</SRS></PAMDataset>")
    assert read_header(path).crs == "EPSG:32633"
    (tmp_path / "a.png.aux.xml").unlink()
    (tmp_path / "a.prj").write_text(wkt)
    assert (read_header(path).crs, read_header(path).gsd_m) == ("EPSG:32633", 0.5)
    (tmp_path / f"a{ending}").write_text("not a number")
    assert read_header(path) == plain


def test_gdal_s_own_file_gives_a_place_too_and_turned_images_have_none(tmp_path: Path) -> None:
    """Six numbers in GDAL's order; where EXIF turns an image, the numbers are those of another grid."""
    text = "<PAMDataset><GeoTransform> 4e5, 2, 0, 56e5, 0, -2</GeoTransform></PAMDataset>"
    path = save(tmp_path / "a.jpg", noise(4, 6))
    (tmp_path / "a.jpg.aux.xml").write_text(text)
    assert read_header(path).transform == (2.0, 0.0, 4e5, 0.0, -2.0, 56e5)
    turned = _oriented(tmp_path / "b.jpg", 6, order="II")
    (tmp_path / "b.jpg.aux.xml").write_text(text)
    assert read_header(turned).transform is None
