"""`plumbline why`: which release gave an answer, what it was made from, who approved it, and the same answer again."""

from pathlib import Path
from typing import Annotated, Any

import typer

from plumbline.core import reach
from plumbline.core.artifact import ArtifactError
from plumbline.core.commands import AsJson, application, print_json
from plumbline.core.errors import Misuse, Refused
from plumbline.core.settings import load

app = application(__doc__ or "", invoke_without_command=True, context_settings={"allow_interspersed_args": True})


@app.callback()
def why(
    prediction: Annotated[str, typer.Argument(help="The prediction_id of an answer; <id>:<row> for a row of a batch.")],
    public_key: Annotated[
        Path,
        typer.Option(
            envvar="PROMOTION_PUBLIC_KEY", exists=True, dir_okay=False, help="The model's signature is checked."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Explain one answer of the log from git, and compute it anew from the signed model; 10 where it is another."""
    from plumbline.promotion.delivery.approval import approvals
    from plumbline.promotion.delivery.git import checkout
    from plumbline.promotion.delivery.releases import served_as
    from plumbline.promotion.settings import Settings

    answer = _logged(prediction)
    with checkout(load(Settings)) as tree:
        served = list(served_as(tree, answer["model"], answer["version"]))
        approved = approvals(tree, answer["model"], answer["version"])
    if not served:
        raise Refused(f"git never named {answer['model']} {answer['version']}, which answered {prediction}")
    found, refusals = None, []
    for release in {release.spec.model_dump_json(): release for _, release in served}.values():
        try:
            found = release.spec, _again(release, answer["features"], public_key)
        except ArtifactError as error:  # what git said by hand, and no server loaded
            refusals.append(error)
            continue
        if found[1] == _numbers(answer["output"]):
            break
    if found is None:
        raise refusals[0]
    spec, again = found
    same = again == _numbers(answer["output"])
    told = {
        **answer,
        "served": [f"{since.environment} since {since.since} by {since.by} ({since.commit})" for since, _ in served],
        "artifact": spec.artifact.digest,
        "image": spec.image,
        **spec.lineage.model_dump(),
        "gate": spec.evidence.gate,
        "approval": "; ".join(map(str, approved)) or "none on record",
        "again": "the same, bit by bit" if same else f"another: {again}",
    }
    if as_json:
        print_json(told)
    else:
        told["served"] = "; ".join(told["served"])
        typer.echo("\n".join(f"{name:<16} {value}" for name, value in told.items()))
    if not same:
        raise typer.Exit(Refused.exit_code)


def _logged(prediction: str) -> dict[str, Any]:
    """The answer as the log has it; raises Misuse where it has none."""
    import psycopg
    from psycopg.rows import dict_row

    from plumbline.monitoring.log.settings import Settings

    url = str(load(Settings).database_url)
    reach.postgresql(url, "MONITORING_DATABASE_URL")
    identifier, _, row = prediction.partition(":")
    with psycopg.connect(url, row_factory=dict_row) as connection:
        try:
            answer = connection.execute(
                "SELECT model, version, at, role, arm, features, output FROM monitoring.predictions"
                " WHERE id = %s::uuid AND row = %s::int",
                [identifier, row or "0"],
            ).fetchone()
        except psycopg.errors.UndefinedTable:
            answer = None  # nothing was ever logged here
        except psycopg.DataError as error:
            raise Misuse(
                f"{prediction!r} is no prediction_id; expected <id> or <id>:<row>, as an answer has it"
            ) from error
    if answer is None:
        raise Misuse(f"{prediction} is not in the log; `plumbline monitor consume` stores what servers answered")
    return answer


def _again(release: Any, features: dict[str, Any], public_key: Path) -> dict[str, float | str]:
    """What the released model answers to these values now."""
    import pandas as pd

    from plumbline.scoring.scorer import Scorer

    with Scorer.fetch(release, Path("release.yaml"), public_key) as scorer:
        row = {field.name: features.get(field.name) for field in scorer.schema.fields}
        answer = scorer.score(pd.DataFrame([row], dtype=object)).iloc[0].to_dict()
    return {
        str(name): value if isinstance(value, str) else float(value)
        for name, value in answer.items()
        if name != "version"
    }


def _numbers(output: dict[str, Any]) -> dict[str, float | str]:
    """A logged answer in the columns of batch scoring, its numbers as the model's float32."""
    import numpy as np

    if "value" in output:
        return {"value": float(np.float32(output["value"]))}
    each = {f"probability_{label}": float(np.float32(p)) for label, p in output["probabilities"].items()}
    return {"label": output["label"], **each}
