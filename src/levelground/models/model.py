"""Models ready to run on stored pixels, whatever their source: a specification and a forward function."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from levelground.config import TileOptions
from levelground.console import say
from levelground.errors import ConfigError, LegendError, ModelError
from levelground.imagery.legend import Legend, default_legend
from levelground.imagery.legend_sources import read_legend
from levelground.models.spec import ModelSpec, refuse_other_tile
from levelground.records import sha256_json
from levelground.tile_geometry import MULTIPLE, TileGeometry, choose_geometry

if TYPE_CHECKING:
    import torch
    from torch import nn

Forward = Callable[["torch.Tensor"], "torch.Tensor"]
"""Normalised ``(N, C, H, W)`` to ``(N, K, H, W)``: logits, such as a network in evaluation mode gives, or
probabilities, as :attr:`Model.activated` says."""

ArrayForward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The same over NumPy arrays, in main memory; the result may be overwritten."""

Engine = Literal["torch", "onnx", "openvino"]
"""What runs a network: torch, onnxruntime, or OpenVINO."""

EXTERNAL_GEOMETRY = TileGeometry(512, 64)
"""Tile geometry of external models, which do not state theirs."""


@dataclass(frozen=True)
class Model:
    """A model ready to run on stored pixels."""

    spec: ModelSpec
    forward: Forward | ArrayForward
    """Normalised ``(N, C, H, W)`` float32 -> ``(N, K, H, W)``: tensors on the runtime's device, arrays where another
    engine than torch runs."""
    activated: bool = False
    """Whether ``forward`` gives probabilities, not logits."""
    digest: str | None = None
    """SHA-256 over the weights and all else that decides the output; ``None`` while weights still change."""
    encoder_weights: str | None = None
    """Where the encoder's first weights came from, such as ``package NAME``; ``None`` unknown."""
    rescale: bool = False
    """Whether mean and std follow the type of the pixels, because they are not known (:func:`fit_pixels`)."""
    engine: Engine = "torch"
    """What runs ``forward``."""
    reference: "Callable[[], Model] | None" = None
    """Opens the same model in the engine that it has to agree with before it is used; ``None`` where it need not."""

    @property
    def network(self) -> "nn.Module":
        """The torch network; models of ONNX files have none."""
        from torch import nn

        assert isinstance(self.forward, nn.Module), f"{self.spec.name} is not a torch network"
        return self.forward

    @property
    def on_tensors(self) -> Forward:
        """``forward`` of a model that torch runs."""
        assert self.engine == "torch", f"{self.spec.name} runs in {self.engine}"
        return cast(Forward, self.forward)

    @property
    def on_arrays(self) -> ArrayForward:
        """``forward`` of a model that another engine runs."""
        assert self.engine != "torch", f"{self.spec.name} runs in torch"
        return cast(ArrayForward, self.forward)

    def run_as(self, other: "Model") -> "Model":
        """Return the same model as another form of it runs it."""
        return dataclasses.replace(
            self,
            forward=other.forward,
            engine=other.engine,
            activated=other.activated,
            digest=other.digest,
            reference=other.reference,
        )

    def with_forward(self, forward: Forward | ArrayForward) -> "Model":
        """Return the same model around another form of its network, such as one moved to a device."""
        return dataclasses.replace(self, forward=forward)

    def choose_geometry(self, asked: TileOptions, device: str, shape: tuple[int, int] | None = None) -> TileGeometry:
        """Choose the tile geometry to run with: what is asked for, else the model's own.

        Args:
            asked: What the user asks for.
            device: Kind of device, for the batch.
            shape: Rows and columns of the scene that the tile may be fitted to.
        Raises:
            ConfigError: It cannot work, or the model takes tiles of one size only.
        """
        own = self.spec.geometry
        refuse_other_tile(self.spec.name, own.tile, asked, fixed=self.spec.fixed_tile)
        room = self.engine if self.engine != "torch" and device == "cpu" else device
        multiple = 1 if self.spec.fixed_tile else MULTIPLE
        chosen = choose_geometry(own, asked, device=room, multiple=multiple, shape=shape)
        return dataclasses.replace(chosen, batch=min(chosen.batch, self.spec.max_batch or chosen.batch))


def described_model(
    spec: ModelSpec,
    forward: Forward | ArrayForward,
    weights_sha256: str,
    *,
    activated: bool = False,
    engine: Engine = "torch",
) -> Model:
    """Return a model that brings its specification, with its digest.

    Args:
        spec: The specification.
        forward: The network.
        weights_sha256: Hash of the files of weights.
        activated: Whether ``forward`` gives probabilities.
        engine: What runs ``forward``.
    """
    digest = sha256_json([weights_sha256, spec.arch, spec.encoder, spec.outputs, spec.mean, spec.std])
    return Model(spec, forward, activated, digest, engine=engine)


def check_shape(spec: ModelSpec, bands: int, n_outputs: int, source: Path) -> None:
    """Refuse the specification of another model.

    Raises:
        ModelError: ``source`` has another number of bands or outputs than its specification says.
    """
    if (spec.bands, len(spec.outputs)) != (bands, n_outputs):
        raise ModelError(
            f"{source}: has {bands} bands and {n_outputs} outputs, its model metadata says {spec.bands} and "
            f"{len(spec.outputs)}. Export it anew."
        )


def fit_pixels(model: Model, dtype: str) -> Model:
    """Fit the scale of a model that does not state its pixels' type to the pixels at hand.

    Args:
        model: Any model; those whose normalisation is known stay as they are.
        dtype: NumPy's name of the pixels' type: uint8 is divided by 255, others are taken as they are.
    """
    if not model.rescale or dtype == "uint8":
        return model
    say(
        "%(name)s: %(dtype)s values are taken as they are. Where it needs others, pass --mean and --std.",
        name=model.spec.name,
        dtype=dtype,
    )
    mean, std = (tuple(value / 255 for value in values) for values in (model.spec.mean, model.spec.std))
    return dataclasses.replace(model, spec=dataclasses.replace(model.spec, mean=mean, std=std))


@dataclass(frozen=True)
class Overrides:
    """Legend, mean and deviation that a user gives for an external model."""

    legend: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def refuse(self, source: Path) -> None:
        """Refuse to overrule a model that brings its own.

        Raises:
            ConfigError: Something is given.
        """
        for flag, value in (("legend", self.legend), ("mean", self.mean), ("std", self.std)):
            if value is not None:
                raise ConfigError(f"--{flag}: {source} brings its own. Leave --{flag} away.")

    def normalisation(self, bands: int, source: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Return mean and deviation in stored units, where they are given; one value holds for all bands.

        Raises:
            ConfigError: Not one number a band, or not a number that can work.
        """
        if self.mean is None and self.std is None:
            return None
        pairs = (("mean", self.mean or (0.0,)), ("std", self.std or (1.0,)))
        for flag, values in pairs:
            if len(values) not in (1, bands) or not np.isfinite(values).all() or (flag == "std" and min(values) <= 0):
                shown, more = " ".join(f"{value:g}" for value in values), ", above 0" if flag == "std" else ""
                raise ConfigError(f"--{flag} {shown}: {source} reads {bands} bands. Give {bands} numbers or one{more}.")
        mean, std = (values * bands if len(values) == 1 else values for _, values in pairs)
        return mean, std

    def classes(self, n_outputs: int, names: Mapping[int, str] | None, source: Path) -> tuple[Legend, tuple[int, ...]]:
        """Return legend and outputs of a model without: the user's file, the file's own class names, or numbers.

        Args:
            n_outputs: Number of outputs.
            names: Names by output that the file itself gives; ``None`` where it gives none.
            source: The file.
        Raises:
            ConfigError: The legend given has not one class an output.
            LegendError: Legend or names contradict themselves.
        """
        if self.legend is not None:
            legend = read_legend(self.legend)
            counted = tuple(int(index) for index in np.flatnonzero(legend.counted))
            if n_outputs not in (legend.n_classes, len(counted)):
                raise ConfigError(
                    f"--legend {self.legend}: has {legend.n_classes} classes, {len(counted)} of them counted; {source} "
                    f"has {n_outputs} outputs. Give a legend with one class an output."
                )
            return legend, tuple(range(n_outputs)) if n_outputs == legend.n_classes else counted
        legend = default_legend(n_outputs)
        if names is None:
            say(
                "%(name)s: does not name its classes (%(n_outputs)s); they are numbered. Pass --legend to name them.",
                name=source.name,
                n_outputs=n_outputs,
            )
            return legend, tuple(range(n_outputs))
        classes = [dataclasses.replace(c, name=names.get(c.index, c.name)) for c in legend.classes]
        try:
            return Legend(source.stem or "model", tuple(classes)), tuple(range(n_outputs))
        except LegendError as error:
            raise LegendError(f"{source}: {error} Or pass --legend.") from error


def external_digest(weights_sha256: str, spec: ModelSpec) -> str:
    """Return the digest of a model that brings no specification, from its weights and what was chosen for it."""
    return sha256_json([weights_sha256, spec.legend.digest(), spec.outputs, spec.mean, spec.std])
