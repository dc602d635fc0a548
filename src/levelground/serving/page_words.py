"""Texts of the server's page, in the language that a browser asks for."""

from levelground.wording import gettext, language


def page_words(code: str) -> dict[str, str]:
    """Return the texts of the page by name.

    Args:
        code: A language, one of :func:`levelground.wording.languages`.
    """
    with language(code):
        return {
            "title": gettext("Maps by several models, side by side"),
            "make": gettext("New map"),
            "raster": gettext("Raster"),
            "upload": gettext("Upload a file"),
            "choose": gettext("Choose from the server's folder"),
            "models": gettext("Models, one to four"),
            "start": gettext("Make the map"),
            "maps": gettext("Maps"),
            "none": gettext("No map has been made yet."),
            "report": gettext("Report"),
            "queued": gettext("Waiting"),
            "running": gettext("In progress"),
            "done": gettext("Finished"),
            "failed": gettext("Failed"),
            "left": gettext("Time left: {time}"),
            "seconds": gettext("{n} s"),
            "minutes": gettext("{n} min"),
            "uploading": gettext("Upload: {share}"),
            "left_side": gettext("Left of the line"),
            "right_side": gettext("Right of the line"),
            "line": gettext("Position of the line"),
            "opacity": gettext("Opacity of the maps"),
            "image": gettext("Image"),
            "disagreement": gettext("Where the models disagree"),
            "zoom_in": gettext("Zoom in"),
            "zoom_out": gettext("Zoom out"),
            "whole": gettext("Whole raster"),
            "map_label": gettext("Map: drag or arrow keys to move, wheel or plus and minus to zoom"),
            "areas": gettext("Areas by class"),
            "class": gettext("Class"),
            "hectares": gettext("ha"),
            "share": gettext("share"),
            "difference": gettext("difference to {model}, ha"),
            "difference_share": gettext("difference to {model}, percentage points"),
            "disagree_on": gettext("The models disagree on {share} of the area ({hectares} ha)."),
            "disagree_share": gettext("The models disagree on {share} of the pixels."),
            "files": gettext("Files"),
            "map_file": gettext("Map"),
            "polygons_file": gettext("Polygons"),
            "areas_file": gettext("Areas"),
            "remove": gettext("Remove"),
            "remove_sure": gettext("Remove the map {raster} and its files?"),
            "too_many": gettext("Choose one to four models."),
            "no_raster": gettext("Choose a raster, or a file to upload."),
            "unreachable": gettext("The server does not answer."),
            "language": gettext("Language"),
            "theme": gettext("Colours"),
            "theme_auto": gettext("system"),
            "theme_light": gettext("light"),
            "theme_dark": gettext("dark"),
        }
