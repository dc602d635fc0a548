"""Every command's help is light."""

import subprocess
import sys

import pytest

from levelground.cli import COMMANDS

HEAVY = ("torch", "matplotlib", "rasterio", "cv2")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command: str) -> None:
    """``--help`` ends well and imports neither torch nor drawing nor raster libraries."""
    code = (
        f"import sys; sys.argv = ['levelground', '{command}', '--help']\n"
        "from levelground.cli import main\n"
        "status = main()\n"
        f"loaded = [name for name in {HEAVY} if name in sys.modules]\n"
        "print('STATUS', status, 'LOADED', loaded)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "STATUS 0 LOADED []" in done.stdout
    assert "--" in done.stdout
