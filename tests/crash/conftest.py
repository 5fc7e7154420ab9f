"""Settings of the crash suites."""

import gc

import pytest


@pytest.fixture(autouse=True)
def seldom_collections():
    """Millions of objects come and go here, few of them in cycles: looking for those costs a fifth."""
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, *thresholds[1:])
    yield
    gc.set_threshold(*thresholds)
