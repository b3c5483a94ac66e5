"""Every mutant is stopped, and by the rule that its list names."""

import os
import re
from collections.abc import Iterator

import pytest
import services
from integration.promotion.conftest import Remote
from mlflow.exceptions import MlflowException
from mutants import tampered, trained
from mutants.admitted import SENT, Sent
from mutants.catalogue import Mutant
from mutants.world import ROOT, World, begin

from plumbline.core import programs
from plumbline.core.errors import PlumblineError
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.signing import generate_keys
from plumbline.promotion.settings import Settings
from plumbline.tree.validate.cluster import Cluster
from plumbline.tree.validate.examples import check_examples, read_examples

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def world(s3: services.S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The shipped models in MLflow, in the store and in git, promoted as they are."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("world")
        variables = s3.environment | {
            # MLflow on its embedded default, as in tests/integration/promotion: whoever is signed in may do all of it.
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            # Who trains, in a container that names nobody.
            "USER": "trainer",
            # Of an image, which has no git to ask: what is changed here is under test, and committed later.
            "TRAINING_CODE_COMMIT": programs.git("rev-parse", "HEAD", cwd=ROOT).text.strip(),
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        remote = Remote(folder / "git")
        private, public = generate_keys(folder / "keys")
        store = f"s3://{s3.bucket}/releases"
        settings = Settings(repo=remote.url, signing_key=private, public_key=public, store=store)
        made = World(Registry(os.environ["MLFLOW_TRACKING_URI"]), settings, remote, folder)
        begin(made)
        yield made


# First: an API server is started from where the tests are, which the world is not.
@pytest.mark.parametrize("sent", SENT, ids=lambda sent: sent.name)
def test_it_is_not_admitted(cluster: Cluster, policies: set[str], sent: Sent) -> None:
    (example,) = [item for item in read_examples(ROOT) if item.file == sent.path]
    assert (example.refused, example.policy) == (True, f"{sent.policy}.plumbline.dev")
    assert check_examples(cluster, [example], policies) == []


@pytest.mark.parametrize("mutant", [*trained.MUTANTS, *tampered.MUTANTS], ids=lambda mutant: mutant.name)
def test_it_is_stopped(world: World, mutant: Mutant) -> None:
    try:
        said = mutant.bring(world)
    except (PlumblineError, MlflowException) as error:
        said = str(error)
    assert isinstance(said, str), f"it was not stopped: {said}"
    assert re.search(mutant.said, said, re.DOTALL), said


def test_what_is_shipped_still_passes(world: World) -> None:
    """Whatever was brought in before: nothing of it is served, and nothing sound was refused for it."""
    assert world.audited() == ""
    assert world.started(world.text("flights", "production")) == "ready"
