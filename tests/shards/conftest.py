"""What the tests of divided dockets share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.shards._cluster import Cluster, running_cluster


@pytest.fixture(scope="session")
def the_cluster() -> Iterator[Cluster]:
    """This is the cluster of this test process."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(the_cluster: Cluster) -> Cluster:
    """This is a cluster of three primaries, empty at the start of each test."""
    the_cluster.flush()
    return the_cluster
