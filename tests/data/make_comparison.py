"""Makes ``comparison.json`` beside it: the record of a tiny study, from which the gold report is drawn.

Run it from the project's root after a change of the record's form: ``python tests/data/make_comparison.py``.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from builders.fake_study import FakeStudy, build_fake_study

OUT = Path(__file__).parent / "comparison.json"


def make_study(folder: Path) -> FakeStudy:
    """The study: two architectures, two seeds, eight tiny scenes."""
    scenes = [str(number) for number in range(101, 109)]
    return build_fake_study(folder, archs={"unet": 0.3, "fpn": 0.15}, scenes=scenes, size=24)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        make_study(Path(folder))
        OUT.write_bytes((Path(folder) / "comparison.json").read_bytes())
