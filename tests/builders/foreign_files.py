"""Files of weights and folders of predictions as other trainers and tools leave them, made from a network or arrays."""

import argparse
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from safetensors.torch import save_file
from torch import nn

from levelground.imagery.legend import Legend, encode_colours

Array = NDArray[np.generic]


class Task(nn.Module):
    """A training task around a network, as Lightning pickles it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.loss = nn.CrossEntropyLoss(torch.ones(4))


def checkpoint_contents(network: nn.Module) -> Mapping[str, object]:
    """What training loops hand to ``torch.save``, all around one network, by the name of the file."""
    state = network.state_dict()

    def under(prefix: str) -> dict[str, torch.Tensor]:
        return {prefix + name: value for name, value in state.items()}

    adam = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    adam.step()
    adam.zero_grad()
    inside = {
        name.replace("encoder.", "encoder._orig_mod.").replace("decoder.", "decoder.module."): value
        for name, value in state.items()
    }
    parts = ("encoder", "decoder", "segmentation_head")
    return {
        "plain.pth": state,
        "parallel.pth": under("module."),
        "compiled.pth": under("module._orig_mod."),
        "inside.pth": inside,
        "optimiser.pt": {"model": state, "optimizer": adam.state_dict(), "rng": torch.get_rng_state()},
        "deep.pth.tar": {"epoch": 3, "nets": [{"student": under("a.b.")}], "best": np.float64(0.5)},
        "lightning.ckpt": {
            "state_dict": {"loss_fn.weight": torch.ones(4), "std": torch.ones(1, 3, 1, 1), **under("model.")},
            "hyper_parameters": argparse.Namespace(root=Path("data")),
            "loops": {},
        },
        "average.pth": {**under("module."), "n_averaged": torch.tensor(3)},
        "ema_alike.pth": {
            "state_dict": state,
            "state_dict_ema": {name: value.clone() for name, value in state.items()},
        },
        "by_part.pth": {
            part: {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
            for part in parts
        },
        "whole.pth": {"model": network, "epoch": 2},
        "task.pth": Task(network),
        "double.pth": {name: value.double() if value.is_floating_point() else value for name, value in state.items()},
    }


def write_checkpoints(folder: Path, network: nn.Module) -> Iterator[Path]:
    """Write a network's weights in every form, and yield the file or folder to adopt."""
    folder.mkdir()
    for name, content in checkpoint_contents(network).items():
        torch.save(content, folder / name)
        yield folder / name
    torch.save(network.state_dict(), folder / "legacy.pth", _use_new_zipfile_serialization=False)
    yield folder / "legacy.pth"
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(state, folder / "one.safetensors")
    yield folder / "one.safetensors"
    network.save_pretrained(folder / "hub")  # type: ignore[operator]
    yield folder / "hub"
    names = list(state)
    parts = {f"model-0000{n + 1}-of-00002.safetensors": names[n::2] for n in (0, 1)}
    (folder / "parts").mkdir()
    for file, some in parts.items():
        save_file({name: state[name] for name in some}, folder / "parts" / file)
    index = {"weight_map": {name: file for file, some in parts.items() for name in some}}
    (folder / "parts" / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "parts" / "optimizer.bin").write_bytes(b"")
    yield folder / "parts"


def _array(path: Path, values: Array) -> None:
    np.save(path.with_suffix(".npy"), values)


def _image(path: Path, values: NDArray[Any]) -> None:
    Image.fromarray(values).save(path.with_suffix(".png"))


def write_bands(path: Path, values: NDArray[Any]) -> None:
    """Write ``(H, W, C)`` by GDAL, as other tools' rasters."""
    bands = np.moveaxis(values, -1, 0)
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="PNG" if path.suffix == ".png" else "GTiff", **shape) as file:
            file.write(bands)


def _palette(path: Path, values: NDArray[np.uint8]) -> None:
    image = Image.fromarray(values, "P")
    image.putpalette(np.random.default_rng(1).integers(0, 255, 768, np.uint8).tobytes())
    image.save(path.with_suffix(".png"))


WRITERS: Mapping[str, Callable[[Path, NDArray[np.uint8], Legend], None]] = {
    "indices": lambda path, preds, _: _image(path, preds),
    "three_bands": lambda path, preds, _: _image(path, np.repeat(preds[..., None], 3, axis=2)),
    "sixteen_bits": lambda path, preds, _: _image(path, preds.astype(np.uint16)),
    "palette": lambda path, preds, _: _palette(path, preds),
    "colours": lambda path, preds, legend: _image(path, encode_colours(preds, legend)),
    "array": lambda path, preds, _: _array(path, preds),
    "float_array": lambda path, preds, _: _array(path, preds.astype(np.float32)),
    "probabilities": lambda path, preds, _: _array(path, np.eye(4, dtype=np.float16)[preds].transpose(2, 0, 1)),
    "bands_of_probabilities": lambda path, preds, _: write_bands(
        path.with_suffix(".tif"), np.eye(4, dtype=np.float32)[preds] * np.float32(0.96) + np.float32(0.01)
    ),
    "three_bands_of_sixteen_bits": lambda path, preds, _: write_bands(
        path.with_suffix(".png"), np.repeat(preds[..., None], 3, axis=2).astype(np.uint16)
    ),
    "suffix": lambda path, preds, _: _image(path.with_name(f"{path.name}_sat_out"), preds),
    "prefix": lambda path, preds, _: _image(path.with_name(f"pred_{path.name}"), preds),
    # These are refused, with the flag that reads them.
    "from_one": lambda path, preds, _: _image(path, preds + np.uint8(1)),
    "stretched": lambda path, preds, _: _image(path, preds * np.uint8(60)),
    "blue_first": lambda path, preds, legend: _image(
        path, np.ascontiguousarray(encode_colours(preds, legend)[..., ::-1])
    ),
    "other_colour": lambda path, preds, legend: _image(path, _recoloured(preds, legend)),
}
"""How a tool writes the classes of a scene, by what is odd about it."""


def _recoloured(preds: NDArray[np.uint8], legend: Legend) -> NDArray[np.uint8]:
    found = encode_colours(preds, legend)
    found[preds == 3] = (12, 34, 56)
    return found
