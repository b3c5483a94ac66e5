"""The YAML beside each graph is what the graph renders."""

import pytest

from argo.render import rendered


@pytest.mark.parametrize("path", rendered(), ids=lambda path: path.name)
def test_the_yaml_is_what_the_graph_renders(path):
    assert path.read_text() == rendered()[path], "run `make workflows`"
