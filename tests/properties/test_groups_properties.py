"""Properties of joined groups."""

from hypothesis import given
from hypothesis import strategies as st

from levelground.datasets.groups import NamedLink, join_groups

IDS = [f"s{number}" for number in range(12)]
PAIRS = st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(IDS)), max_size=14)
NAMES = st.dictionaries(st.sampled_from(IDS), st.sampled_from(["x", "y", "z"]), max_size=12)


def connected(named: dict[str, str], pairs: list[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """What hangs together, the slow way: grow each scene's set until nothing is added."""
    sets = {scene: {scene} | {other for other in named if named.get(scene) == named[other]} for scene in IDS}
    for _ in IDS:
        for a, b in pairs:
            union = sets[a] | sets[b]
            for scene in union:
                sets[scene] |= union
        for scene in IDS:
            for other in set(sets[scene]):
                sets[scene] |= sets[other]
    return {scene: frozenset(members) for scene, members in sets.items()}


@given(named=NAMES, pairs=PAIRS)
def test_groups_are_what_hangs_together(named: dict[str, str], pairs: list[tuple[str, str]]) -> None:
    """Two scenes share a group exactly where names and links connect them; the order of links changes nothing."""
    links = [NamedLink(a, b, "touches", "") for a, b in pairs]
    groups = join_groups(IDS, named, links)
    slow = connected(named, pairs)
    for a in IDS:
        assert frozenset(b for b in IDS if groups[b] == groups[a]) == slow[a]
    assert join_groups(reversed(IDS), named, links[::-1]) == groups
