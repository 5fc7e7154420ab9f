"""Versions at random, of tables that are nothing but their metadata."""

from hypothesis import strategies as st

from lsmdbm._engine.version import Version
from support.stage import table_meta

keys = st.binary(max_size=1)
bounds = st.tuples(keys, keys).map(sorted)


def level_of(first_number, borders):
    """Return disjoint tables whose bounds are pairs of ascending borders."""
    pairs = zip(borders[::2], borders[1::2], strict=False)
    return tuple(table_meta(first_number + index, *pair) for index, pair in enumerate(pairs))


@st.composite
def versions(draw):
    newest = tuple(
        table_meta(100 + index, *pair) for index, pair in enumerate(draw(st.lists(bounds, max_size=6)))
    )
    deeper = [
        level_of(1000 * (1 + index), sorted(borders))
        for index, borders in enumerate(draw(st.lists(st.sets(keys, max_size=16), max_size=3)))
    ]
    return Version((newest, *deeper))
