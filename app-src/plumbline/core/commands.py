"""What every subcommand with options is made of: a Typer application that says an error in one line."""

import json
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from plumbline.core.errors import PlumblineError
from plumbline.core.reach import failure_of_a_service


class _Answering(TyperGroup):
    """Ends with the message and the exit code of an error of ours or of a service; other exceptions are defects."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            failure = error if isinstance(error, PlumblineError) else failure_of_a_service(error)
            if failure is None:
                raise
            typer.secho(f"{failure.word}: {failure}", err=True, fg="red")
            raise typer.Exit(failure.exit_code) from error


def application(text: str, **more: Any) -> typer.Typer:
    """A Typer application with this help."""
    return typer.Typer(
        cls=_Answering,
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        **more,
    )


def storage(address: str) -> str:
    """Parse an option that names a place for files; what no library of this machine can open is used wrongly."""
    from fsspec.core import url_to_fs

    try:
        url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise typer.BadParameter(f"{error}; expected a folder or s3://bucket/prefix") from error
    return address


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a machine.")]


def print_json(value: object) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=2, default=str))
