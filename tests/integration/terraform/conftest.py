"""Terraform, and what it says of every folder, once for the run."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from .mocked import SUITES, Suite, Terraform, start


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """The program and a copy of terraform/, with the provider."""
    made = start(tmp_path_factory.mktemp("terraform"))
    made.fetch("account")
    return made


@pytest.fixture(scope="session")
def suites(terraform: Terraform) -> dict[str, Suite]:
    """{folder: what its tests said}, two folders at a time."""

    def said(folder: str) -> Suite:
        terraform.run(folder, "get")
        # Whole plans, of which each holds the provider's schema too: 14 MB.
        plan = ["-verbose"] if folder.startswith("environments/") else []
        return Suite(terraform.run(folder, "test", "-json", *plan).stdout)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(SUITES, pool.map(said, SUITES), strict=True))
