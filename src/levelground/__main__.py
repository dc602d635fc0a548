"""``python -m levelground`` is the same as ``levelground``."""

import sys

from levelground.cli import main

if __name__ == "__main__":
    sys.exit(main())
