"""Programs that the test cluster has too: `make tools` builds what tests without a cluster need of them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "cluster"))

from harness.binaries import binaries


def program(name: str) -> Path:
    """A program whose module of tests/cluster/tools is called as it is."""
    return binaries(name)[name]
