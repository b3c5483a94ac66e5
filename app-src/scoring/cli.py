"""`scoring`: this pod's share of the files below a folder, each answered into a file of the same name."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
REFUSED, UNREACHABLE = 2, 3


@app.command()
def score(
    release: Annotated[Path, typer.Option(help="The release.yaml that names the model.")],
    rows: Annotated[str, typer.Option(help="Folder of Parquet files: a path or s3://bucket/prefix.")],
    out: Annotated[str, typer.Option(help="Answers go to <out>/<digest of the model>/.")],
    public_key: Annotated[Path, typer.Option(envvar="PROMOTION_PUBLIC_KEY", help="The model's signature is checked.")],
    part: Annotated[int, typer.Option(min=0, help="Which part of the files, from 0.")] = 0,
    parts: Annotated[int, typer.Option(min=1, help="Over how many processes or pods the files are spread.")] = 1,
) -> None:
    """Answer the files of one part; those that have their answers already are left as they are."""
    from release import ArtifactError, ReleaseError, read_release
    from serving.sources import FetchError

    from scoring.files import RowsError, score_files
    from scoring.scorer import Scorer

    if part >= parts:
        raise typer.BadParameter(f"{part} is not among {parts} parts, expected 0 to {parts - 1}", param_hint="--part")
    try:
        with Scorer.fetch(read_release(release), release, public_key) as scorer:
            count = 0
            for name, answered in score_files(scorer, rows, out, part, parts):
                typer.echo(f"{name}: {answered} rows")
                count += 1
        typer.echo(f"{count} files answered")
    except (RowsError, ReleaseError, ArtifactError) as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(REFUSED) from error
    except (FetchError, OSError) as error:
        typer.echo(f"not now: {error}", err=True)
        raise typer.Exit(UNREACHABLE) from error
