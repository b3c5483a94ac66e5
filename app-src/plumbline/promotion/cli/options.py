"""Options that several commands of `plumbline promote` take, and what is asked of their values."""

from typing import Annotated

import typer

from plumbline.core.errors import Misuse
from plumbline.core.names import plain_name
from plumbline.core.settings import load
from plumbline.promotion.settings import Settings

Model = Annotated[str, typer.Option(help="Registered model, e.g. flights.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="Again for each; every served one if not given.")]
Version = Annotated[str, typer.Option(help="Semantic version, e.g. v1.0.0.")]
Env = Annotated[str, typer.Option("--env", help="Environment: a folder of clusters/.")]
Image = Annotated[str, typer.Option(help="The server's image with its digest; if not given, the one in use.")]
Again = Annotated[str, typer.Option(help="Why a version comes back that was moved away from, or is older.")]
By = Annotated[str, typer.Option(help="Who answers for it.")]
PullRequest = Annotated[
    bool, typer.Option("--pull-request", help="Insist on a pull request; with PROMOTION_FORGE it is one anyway.")
]


def model_name(model: str) -> str:
    """A model's name before it becomes a path or a search."""
    return plain_name(model, "model", like="flights")


def model_names(models: list[str] | None) -> list[str]:
    """The models that were named; none means all."""
    return [model_name(model) for model in models or []]


def environment_name(name: str) -> str:
    """An environment's name before it becomes a path."""
    return plain_name(name, "environment", like="staging")


def writing(pull_request: bool) -> Settings:
    """Settings of a command that writes; raises Misuse where a pull request is asked for and no forge is set."""
    settings = load(Settings)
    if pull_request and not settings.forge:
        raise Misuse("--pull-request: PROMOTION_FORGE is not set; expected github, gitlab or gitea (docs/promotion.md)")
    return settings
