"""Terraform on a copy of terraform/, with mocks in the place of AWS."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "terraform"
SUITES = sorted(str(folder.parent.relative_to(SOURCE)) for folder in SOURCE.rglob("tests"))
"""The folders that have tests of Terraform's own."""
ENVIRONMENTS = sorted(folder.name for folder in (SOURCE / "environments").iterdir() if folder.is_dir())
_PROVIDER = "registry.terraform.io/hashicorp/aws"
_INSTALL = "https://developer.hashicorp.com/terraform/install"


@dataclass(frozen=True)
class Terraform:
    """The program, and a copy of terraform/ that it may write to."""

    copy: Path

    def run(self, folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it in a folder of the copy."""
        # No account of whoever runs the tests is asked anything, nor the machine whose account it is.
        own = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "TF_"))}
        own |= {"TF_CLI_CONFIG_FILE": str(self.copy / "config.tfrc"), "CHECKPOINT_DISABLE": "1"}
        # The provider lives for a second and is started often: half of its time went into collecting garbage.
        own |= {"AWS_EC2_METADATA_DISABLED": "true", "GOGC": "off", "GOMEMLIMIT": "2GiB"}
        command = ["terraform", *arguments]
        return subprocess.run(
            command, cwd=self.copy / folder, env=own, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    def fetch(self, folder: str) -> None:
        """Fetch the provider as a folder's lock names it, once for all; skips the test where it can't be had."""
        done = self.run(folder, "init", "-backend=false", "-input=false", "-no-color", "-lockfile=readonly")
        if "Failed to query available provider packages" in done.stderr:
            pytest.skip(
                "the provider hashicorp/aws can't be had: the registry is out of reach, and no usual place has a copy; "
                "fill ~/.terraform.d/plugins by `terraform -chdir=terraform/account providers mirror`"
            )
        assert done.returncode == 0, done.stderr
        (provider,) = (self.copy / folder / ".terraform/providers" / _PROVIDER).glob("*/*")
        # Else each call would hash its 700 MB again.
        text = f'provider_installation {{\n  dev_overrides {{\n    "hashicorp/aws" = "{provider}"\n  }}\n}}\n'
        (self.copy / "config.tfrc").write_text(text, encoding="utf-8")


def start(copy: Path) -> Terraform:
    """Copy terraform/; skips the test where there is no Terraform of a version that fits."""
    if shutil.which("terraform") is None:
        pytest.skip(f"terraform is not on PATH: install 1.11 or newer, {_INSTALL}")
    shutil.copytree(SOURCE, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".terraform"))
    (copy / "config.tfrc").write_text(_installation(), encoding="utf-8")
    terraform = Terraform(copy)
    version = json.loads(terraform.run(".", "version", "-json").stdout)["terraform_version"]
    if tuple(map(int, version.split(".")[:2])) < (1, 11):
        pytest.skip(f"terraform {version} is on PATH: install 1.11 or newer, {_INSTALL}")
    return terraform


def _installation() -> str:
    """Where providers come from: folders of this machine that have ours, if there are any, and else the registry."""
    usual = [Path.home() / ".terraform.d/plugins", Path("/usr/local/share/terraform/plugins"), *Path("/opt").glob("*")]
    mirrors = [folder for folder in usual if (folder / _PROVIDER).is_dir()]
    local = "\n".join(f'  filesystem_mirror {{\n    path = "{folder}"\n  }}' for folder in mirrors)
    return f"provider_installation {{\n{local}\n}}\n" if mirrors else ""


@dataclass(frozen=True)
class Suite:
    """What `terraform test` said in one folder."""

    text: str

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def faults(self) -> list[str]:
        """Each error, with what Terraform says of it."""
        said = [event["diagnostic"] for event in self.events if event["type"] == "diagnostic"]
        return [f"{item['summary']}: {item['detail']}" for item in said if item["severity"] == "error"]

    @property
    def passed(self) -> int:
        """The number of runs that passed."""
        return next((int(e["test_summary"]["passed"]) for e in self.events if e["type"] == "test_summary"), 0)

    @cached_property
    def plan(self) -> dict[str, Any]:
        """Of the one run of an environment: {address: what is planned}."""
        (plan,) = [event["test_plan"] for event in self.events if event["type"] == "test_plan"]
        return plan

    def planned(self, kind: str) -> dict[str, dict[str, Any]]:
        """{address: values} of a type of resources."""
        found = [item for item in self.plan["resource_changes"] if (item["type"], item["mode"]) == (kind, "managed")]
        return {item["address"]: item["change"]["after"] for item in found}

    @property
    def outputs(self) -> dict[str, Any]:
        """What is known of the outputs before anything is made."""
        values: dict[str, Any] = self.plan["output_changes"]["platform"]["after"]
        return values
