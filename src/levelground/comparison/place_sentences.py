"""Sentences of which places a comparison's answer speaks of.

Written as :mod:`levelground.comparison.sentences` says.
"""

from collections.abc import Callable
from typing import Any

from levelground.comparison import caveats, places
from levelground.comparison.facts import Fact
from levelground.comparison.text import listing, per_cent, split_words
from levelground.wording import gettext, ngettext, npgettext, whole


def scenes_of(fact: caveats.FewGroups | places.UnknownPlaces) -> str:
    """Return how many scenes of which split a fact is about, in brackets behind its groups."""
    return npgettext(
        "apposition", "%(n)s %(split)s scene", "%(n)s %(split)s scenes", fact.scenes, split=split_words(fact.split)
    )


def _heavy_group(fact: places.HeavyGroup) -> str:
    return gettext(
        "Group %(group)s holds %(share)s of the scored pixels: the scores are mostly about it, whatever the other "
        "groups show.",
        group=fact.group,
        share=per_cent(fact.share),
    )


def _unlike_groups(fact: places.UnlikeGroups) -> str:
    return gettext(
        "The %(groups)s groups are of very unlike size: by scored pixels they weigh as about %(alike)s alike ones, and "
        "other scenes may be larger than all of these. Where sizes are so unlike, 95 %% intervals held the truth in 89 "
        "to 95 %% of simulated studies.",
        groups=whole(fact.groups),
        alike=whole(max(1, round(fact.alike))),
    )


def _few_regions(fact: places.FewRegions) -> str:
    values = {"groups": whole(fact.groups), "regions": whole(len(fact.regions)), "names": listing(fact.regions)}
    if fact.gap_km is None:
        lie = gettext(
            "By their names the %(groups)s groups lie in %(regions)s regions (%(names)s). Make these groups in "
            "groups.csv.",
            **values,
        )
    else:
        lie = gettext(
            "On the map the %(groups)s groups lie in %(regions)s regions (around %(names)s). %(flag)s makes these "
            "groups.",
            flag=f"--groups km:{fact.gap_km:.2g}",
            **values,
        )
    narrow = gettext(
        "Where models do better in one region than in another, intervals over groups are too narrow for other regions "
        "(in 3 regions of 81 groups they held the truth in half of simulated studies); with regions as groups they are "
        "not."
    )
    return f"{lie} {narrow}"


def _named_places(fact: places.NamedPlaces) -> str:
    return ngettext(
        "The verdicts speak of places like those of this %(n)s group of scenes, and not of others.",
        "The verdicts speak of places like those of these %(n)s groups of scenes, and not of others.",
        fact.groups,
    )


def _unknown_places(fact: places.UnknownPlaces) -> str:
    return gettext(
        "The verdicts speak of places like those of these %(scenes)s. Each is a group of its own, because nothing says "
        "which of them lie together: if they come from a few regions, intervals are too narrow for other regions. Name "
        "the regions in groups.csv.",
        scenes=scenes_of(fact),
    )


def _one_raster(fact: places.OneRaster) -> str:
    return gettext(
        "All scenes are blocks of one raster: intervals and tests apply to this raster only, not to other places."
    )


WRITERS: dict[type[Fact], Callable[[Any], str]] = {
    places.OneRaster: _one_raster,
    places.HeavyGroup: _heavy_group,
    places.UnlikeGroups: _unlike_groups,
    places.FewRegions: _few_regions,
    places.NamedPlaces: _named_places,
    places.UnknownPlaces: _unknown_places,
}
"""What writes each type of fact about places."""
