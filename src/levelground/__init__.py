"""levelground compares land-cover segmentation models on level ground.

Each command is a function whose arguments have the names of the command's flags::

    import levelground as lg

    comparison = lg.study("scenes", out="study", archs=["unet", "fpn"], seeds=[0, 1])
    lg.predict("study/runs/unet-tf_efficientnet_lite0-s0", ["tiles/*.tif"], out="maps")

Pixels flow one way: imagery → tiles → model → confusion counts → comparison → report. Each arrow is a record on disk,
so any stage can be repeated, inspected or replaced. Names are loaded when they are first used: ``import levelground``
loads neither torch nor numpy. Parts that are not listed here, such as ``levelground.prediction``, may change.
"""

import importlib as _importlib

__version__ = "0.1.0"

_COMMANDS = (
    "adopt",
    "benchmark",
    "check",
    "compare",
    "completion",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "jobs",
    "legends",
    "predict",
    "prepare",
    "report",
    "serve",
    "study",
    "track",
    "train",
    "tune",
)
_MODULES = ("errors", "metrics", "statistics")
_PLACES = {
    "Budget": "config",
    "Comparison": "comparison.record",
    "Dataset": "datasets.dataset",
    "Legend": "imagery.legend",
    "LegendClass": "imagery.legend",
    "Model": "models.model",
    "ModelSpec": "models.spec",
    "Recipe": "config",
    "Run": "runs",
    "SceneCounts": "metrics.counts",
    "list_runs": "runs",
    "load_model": "models.loading",
    "load_recipe": "recipe_files",
    "read_comparison": "comparison.record",
    "read_counts": "metrics.counts",
    "read_dataset": "datasets.dataset",
    "read_history": "history",
    "read_legend": "imagery.legend_sources",
    "read_run": "runs",
}

_DISPLAYS = {
    "ComparisonPlots": "reporting.displays",
    "comparison_html": "reporting.displays",
    "run_html": "reporting.displays",
}
# What objects show in a notebook is drawn above the layers that hold them, so they ask for it here.

__all__ = ["__version__", *_COMMANDS, *_MODULES, *_PLACES]  # all are strings


def __getattr__(name: str) -> object:
    """Load a name when it is first used."""
    if name in _COMMANDS:
        found = _importlib.import_module("levelground.api").make_function(name)
    elif name in _MODULES:
        found = _importlib.import_module(f"levelground.{name}")
    elif name in _PLACES:
        found = getattr(_importlib.import_module(f"levelground.{_PLACES[name]}"), name)
    else:
        raise AttributeError(f"module 'levelground' has no attribute {name!r}")
    globals()[name] = found
    return found


def _drawn_by(name: str) -> object:
    """Load what draws a result in a notebook, when it is first shown."""
    return getattr(_importlib.import_module(f"levelground.{_DISPLAYS[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
