"""Outputs made of a finished class map beside the map itself: table of areas, polygons, pictures."""

from pathlib import Path

from levelground.console import say
from levelground.prediction.area_table import ClassAreas, class_areas, write_areas
from levelground.prediction.plan import PredictionPlan
from levelground.prediction.polygons import write_polygons
from levelground.prediction.previews import write_colours, write_overlay

JOINT_AREAS_FILE = "areas.csv"
"""The areas of all inputs, in the folder of outputs, where a call has several inputs."""


def write_outputs(plan: PredictionPlan, classes: Path) -> ClassAreas:
    """Write all outputs of one input but the map and its probabilities.

    Args:
        plan: How the input was predicted.
        classes: The finished class map, one band of legend indices, 255 without data.
    Returns:
        The areas.
    Raises:
        DiskError: The disk is full.
        SceneError: The input is truncated.
    """
    paths, legend, options = plan.input.outputs, plan.model.legend, plan.options
    areas = class_areas(classes, legend)
    write_areas(paths.areas, areas)
    warning = areas.warning(plan.input.name)
    if warning:
        say(warning)
    if paths.polygons is not None:
        count = write_polygons(classes, legend, paths.polygons, smallest=options.smallest_area)
        lost = f"; {count.left_out} small ones without a large neighbour are left out" if count.left_out else ""
        say(f"{paths.polygons}: {count.written} polygons{lost}.")
    if paths.picture is not None:
        write_colours(classes, legend, paths.picture, side=options.picture_side)
    if paths.overlay is not None:
        with plan.open_pixels() as image:
            write_overlay(classes, image, legend, paths.overlay, side=options.picture_side)
    return areas
