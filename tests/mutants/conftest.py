"""The services of the integration tests."""

from integration.conftest import s3 as s3
from integration.tree.conftest import cluster as cluster
from integration.tree.conftest import kinds as kinds
from integration.tree.conftest import policies as policies
