"""A loaded batch -> normalised images and targets on the device; colour changes and normalisation are one product."""

import numpy as np
import torch

from levelground.learning.batches import Batch
from levelground.networks.models import SegmentationModel
from levelground.networks.runtime import Runtime


def to_device(batch: Batch, model: SegmentationModel, runtime: Runtime) -> tuple[torch.Tensor, torch.Tensor]:
    """Move a batch to the device, change its colours and normalise it.

    With stored value x, band mean m and deviation s, gain g and shift b: x' = ((x − m)·g)/s + b, which is x·a + c with
    a = g/s and c = b − m·a, so each value is touched once.

    Args:
        batch: Crops as stored.
        model: Gives means and deviations.
        runtime: Gives the device.
    Returns:
        Images ``(N, C, H, W)`` float32, channels last where that is faster; targets ``(N, H, W)`` int64.
    """
    factors = batch.gains / np.asarray(model.std, np.float32)
    offsets = batch.shifts - np.asarray(model.mean, np.float32) * factors
    images = torch.from_numpy(batch.images).to(runtime.device, non_blocking=True).permute(0, 3, 1, 2)
    scale = torch.from_numpy(factors).to(runtime.device)[:, :, None, None]
    offset = torch.from_numpy(offsets).to(runtime.device)[:, :, None, None]
    normalised = torch.addcmul(offset, images.float(), scale)
    if not runtime.channels_last:
        normalised = normalised.contiguous()
    return normalised, torch.from_numpy(batch.targets).to(runtime.device, non_blocking=True).long()
