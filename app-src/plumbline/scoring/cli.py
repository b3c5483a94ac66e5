"""`plumbline score`: this pod's share of the files below a folder, each answered into a file of the same name."""

from pathlib import Path
from typing import Annotated

import typer

from plumbline.core.commands import AsJson, application, print_json, storage

app = application(__doc__ or "", invoke_without_command=True)


@app.callback()
def score(
    release: Annotated[Path, typer.Option(help="The release.yaml that names the model.")],
    rows: Annotated[str, typer.Option(parser=storage, help="Folder of Parquet files: a path or s3://bucket/prefix.")],
    out: Annotated[str, typer.Option(parser=storage, help="Answers go to <out>/<digest of the model>/.")],
    public_key: Annotated[
        Path,
        typer.Option(
            envvar="PROMOTION_PUBLIC_KEY", exists=True, dir_okay=False, help="The model's signature is checked."
        ),
    ],
    part: Annotated[int, typer.Option(min=0, help="Which part of the files, from 0.")] = 0,
    parts: Annotated[int, typer.Option(min=1, help="Over how many processes or pods the files are spread.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Answer the files of one part; those that have their answers already are left as they are."""
    from plumbline.core.release import read_release
    from plumbline.scoring.files import score_files
    from plumbline.scoring.scorer import Scorer

    if part >= parts:
        raise typer.BadParameter(f"{part} is not among {parts} parts, expected 0 to {parts - 1}", param_hint="--part")
    document = read_release(release)
    with Scorer.fetch(document, release, public_key) as scorer:
        files = {}
        for name, answered in score_files(scorer, rows, out, part, parts):
            typer.echo(f"{name}: {answered} rows", err=as_json)
            files[name] = answered
    if as_json:
        print_json(files)
    else:
        typer.echo(f"{len(files)} files answered")
