"""What lies between the ground and the file: light, haze, cloud and sensor of generated scenes."""

import numpy as np
from numpy.typing import NDArray

from levelground.generated.noise import Field, blurred, floats, fractal_noise, shifted, smooth_noise, smoothstep, stream
from levelground.generated.textures import Palette, Picture


def cloud_cover(seed: int, index: int, size: int) -> Field:
    """One ragged cloud, thickness 0…1, ``(size, size)``."""
    rng = stream(seed, index, 40)
    rows, cols = np.mgrid[:size, :size].astype(np.float32)
    row, col = rng.uniform(0.12, 0.88, 2) * size
    radius = size * rng.uniform(0.105, 0.14)
    flat, turn = rng.uniform(0.55, 1.0), rng.uniform(0, np.pi)
    x = np.cos(turn) * (cols - col) + np.sin(turn) * (rows - row)
    y = np.cos(turn) * (rows - row) - np.sin(turn) * (cols - col)
    body = 1 - np.hypot(x * np.float32(flat), y) / np.float32(radius)
    return smoothstep(body + 0.28 * fractal_noise(rng, size, 0.22 * size, 6, gain=0.6), 0.0, 0.6)


def add_weather(seed: int, index: int, picture: Picture, palette: Palette, cloud: Field | None) -> None:
    """Let light, haze and a cloud with its shadow fall over the scene, in place."""
    rng = stream(seed, index, 41)
    size = picture.shape[0]
    light = 1 + 0.05 * smooth_noise(rng, size, 0.7 * size)
    if cloud is not None:
        far = rng.uniform(28, 55)
        light *= 1 - 0.5 * blurred(shifted(cloud, -palette.sun[0] * far, -palette.sun[1] * far), 3)
    picture *= light[..., None]
    air = floats([168, 172, 176]) * rng.uniform(0.8, 1.1)
    haze = rng.uniform(0.0, 0.22) + rng.uniform(0, 0.05) * smooth_noise(rng, size, 0.6 * size)
    picture += np.clip(haze, 0, 0.4)[..., None] * (air - picture)
    if cloud is not None:
        white = 226 + 14 * fractal_noise(rng, size, 30, 4)
        picture += (0.97 * cloud)[..., None] * (white[..., None] - picture)


def photograph(seed: int, index: int, picture: Picture) -> NDArray[np.uint8]:
    """What the sensor makes of it: blur, colour balance, contrast, noise, 8 bits."""
    rng = stream(seed, index, 42)
    size = picture.shape[0]
    sharp = blurred(picture, rng.uniform(0.55, 0.85))
    balance = np.exp(rng.normal(-0.04, 0.10) + rng.normal((0.02, 0.0, -0.06), 0.03)).astype(np.float32)
    sharp *= balance
    gamma = np.float32(rng.uniform(0.88, 1.18))
    np.clip(sharp, 0, 255, out=sharp)
    sharp = floats(255 * (sharp / 255) ** gamma)
    noise = rng.standard_normal((size, size, 3), np.float32)
    sharp += np.float32(rng.uniform(1.5, 3.5)) * noise
    return np.clip(np.rint(sharp), 0, 255).astype(np.uint8)
