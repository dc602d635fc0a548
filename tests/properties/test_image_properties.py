"""Whatever stands in an image file: pixels of the size its header says, or one line that names it."""

from pathlib import Path

import numpy as np
import pytest
from builders.scene_files import noise, save, save_palette, save_raster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from levelground.errors import SceneError
from levelground.imagery.image_headers import read_header
from levelground.imagery.image_pixels import read_colours, read_image_with_nodata, read_indices

FORMS = ("jpeg", "png", "palette", "tiff")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One small sound file of each form."""
    folder = tmp_path_factory.mktemp("sound")
    return {
        "jpeg": save(folder / "a.jpg", noise(9, 7)).read_bytes(),
        "png": save(folder / "a.png", noise(9, 7, 4)).read_bytes(),
        "palette": save_palette(folder / "p.png", noise(9, 7, 1)[..., 0] % 4, list(range(12))).read_bytes(),
        "tiff": save_raster(folder / "a.tif", noise(9, 7, 2, dtype="float32"), nodata=3).read_bytes(),
    }


@given(
    st.sampled_from(FORMS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6), st.floats(0.2, 1.5)
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_bytes_end_in_pixels_or_in_one_line(
    sound: dict[str, bytes], tmp_path: Path, form: str, changes: list[tuple[float, int]], share: float
) -> None:
    """Bytes changed anywhere, the end cut off or not."""
    content = bytearray(sound[form][: int(share * len(sound[form]))])
    for place, value in changes:
        if content:
            content[min(int(place * len(content)), len(content) - 1)] = value
    path = tmp_path / "a.img"
    path.write_bytes(content)
    for read in (read_image_with_nodata, read_colours, read_indices):
        try:
            result = read(path)
        except SceneError as error:
            assert str(error).startswith(str(path))
            assert "\n" not in str(error)
        else:
            pixels = result[0] if isinstance(result, tuple) else result
            header = read_header(path)
            assert pixels.shape[:2] == (header.height, header.width)
            assert pixels.dtype.kind in "uif"
            if pixels.dtype.kind == "f" and isinstance(result, tuple):
                assert np.isfinite(pixels).all()
