"""The lower edge of a row of tiles in a file, so that a raster of any width costs the same memory."""

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from levelground.errors import DiskError


class SpilledEdges:
    """Edges by the column of their tile; each is written before it is read.

    The file has no name, so it goes with the process. What was written last is mostly still in the system's cache.
    """

    def __init__(self, folder: Path, device: torch.device, *, slot: int) -> None:
        """Open the file in ``folder``; no edge has more than ``slot`` bytes."""
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - lives as long as the blend
        self._device, self._slot = device, slot
        self._shapes: dict[int, torch.Size] = {}

    def close(self) -> None:
        """Close the file; it goes."""
        self._file.close()

    def __contains__(self, column: int) -> bool:
        return column in self._shapes

    def __setitem__(self, column: int, edge: torch.Tensor) -> None:
        values = edge.contiguous().cpu().numpy()
        try:
            if os.pwrite(self._file.fileno(), values.data, column * self._slot) < values.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise DiskError(
                f"{self._folder}: cannot be written ({error.strerror}). Free space; the same command goes on."
            ) from error
        self._shapes[column] = edge.shape

    def __getitem__(self, column: int) -> torch.Tensor:
        values = np.empty(self._shapes[column], np.float32)
        os.preadv(self._file.fileno(), [values.data], column * self._slot)
        return torch.from_numpy(values).to(self._device)
