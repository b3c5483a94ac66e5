"""The YAML beside each graph is what the graph renders."""

import pytest

from argo.render import rendered

RENDERED = rendered()


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: path.name)
def test_the_yaml_is_what_the_graph_renders(path):
    assert path.read_text() == RENDERED[path], "run `make workflows`"
