"""Properties that every split has."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from levelground.datasets.splits import Split, group_counts, origin_split, random_split, separated_groups, strips_split

IDS = st.lists(st.text("abc0129_/ ", min_size=1, max_size=6), min_size=3, max_size=40, unique=True)


def assert_partition(split: Split, ids: list[str]) -> None:
    """Every scene is in one place, and no set is empty."""
    assert sorted(split.train + split.val + split.test + split.left_out) == sorted(ids)
    assert min(split.sizes) >= 1


@given(ids=IDS, order=st.randoms(use_true_random=False))
def test_origin_is_stable_under_the_order_of_scenes(ids: list[str], order: np.random.Generator) -> None:
    """Shuffled ids give the same split, a partition."""
    split = origin_split(ids)
    shuffled = list(ids)
    order.shuffle(shuffled)
    assert origin_split(shuffled) == split
    assert_partition(split, ids)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), n_groups=st.integers(3, 30))
def test_random_splits_partition_by_group(data: st.DataObject, seed: int, n_groups: int) -> None:
    """No group is separated, counts of groups are the default's, and the order of scenes changes nothing."""
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=n_groups, max_size=n_groups))
    groups = {f"{g}/{k}": f"g{g}" for g, size in enumerate(sizes) for k in range(size)}
    rows = st.lists(st.integers(0, 1000), min_size=3, max_size=3).map(tuple)
    pixels = {scene: data.draw(rows) for scene in groups}
    split = random_split(groups, pixels, seed=seed)
    assert_partition(split, list(groups))
    assert separated_groups(split.sets, groups) == {}
    parts = (len({groups[scene] for scene in part}) for part in (split.train, split.val, split.test))
    assert tuple(parts) == group_counts(n_groups)
    assert random_split(dict(sorted(groups.items(), reverse=True)), pixels, seed=seed) == split


@given(n_rows=st.integers(1, 12), n_cols=st.integers(5, 12), block=st.integers(1, 300))
def test_strips_partition_and_never_touch(n_rows: int, n_cols: int, block: int) -> None:
    """Every block is in one place; blocks of unlike sets are a block apart."""
    windows = {f"{r},{c}": (r * block, c * block, block, block) for r in range(n_rows) for c in range(n_cols)}
    split = strips_split(windows, dict.fromkeys(windows, (1, 2)))
    assert_partition(split, list(windows))
    sets = [np.array([windows[scene][:2] for scene in part]) for part in (split.train, split.val, split.test)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(sets[a][:, None] - sets[b][None]).max(axis=-1).min() >= 2 * block


@given(n=st.integers(3, 100_000))
def test_default_sizes_add_up(n: int) -> None:
    """Each set gets a group, test at least a fifth, validation no more than test."""
    train, val, test = group_counts(n)
    assert train + val + test == n
    assert min(train, val, test) >= 1
    assert test >= 0.2 * n
    assert val <= test
