"""`plumbline promote`: register, judge, promote, approve, reject."""

import json
import tempfile
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from tabulate import tabulate

from plumbline.core.commands import AsJson, application, print_json
from plumbline.core.durations import duration
from plumbline.core.errors import Inconclusive, Misuse, PlumblineError, Refused
from plumbline.core.settings import load
from plumbline.promotion.settings import Settings

app = application(__doc__ or "")

Model = Annotated[str, typer.Option(help="Registered model, e.g. flights.")]
Version = Annotated[str, typer.Option(help="Semantic version, e.g. v1.0.0.")]
Env = Annotated[str, typer.Option("--env", help="Environment: a folder of clusters/.")]
PullRequest = Annotated[
    bool, typer.Option("--pull-request", help="Insist on a pull request; with PROMOTION_FORGE it is one anyway.")
]
Again = Annotated[str, typer.Option(help="Why a version comes back that was moved away from, or is older.")]


@app.command()
def keygen(folder: Annotated[Path, typer.Argument(help="Where the two PEM files go.")]) -> None:
    """Make a signing key pair for local use."""
    from plumbline.promotion.registry.signing import generate_keys

    private, public = generate_keys(folder)
    typer.echo(f"PROMOTION_SIGNING_KEY={private}\nPROMOTION_PUBLIC_KEY={public}")


KeyFile = Annotated[
    Path, typer.Option("--file", envvar="PROMOTION_PUBLIC_KEY", help="The public keys that are believed.")
]


@app.command()
def keys(file: KeyFile, as_json: AsJson = False) -> None:
    """Print which key signed what each environment serves; 10 where something served is of none of them."""
    from plumbline.promotion.delivery.git import checkout
    from plumbline.promotion.registry.keys import uses

    with checkout(load(Settings)) as tree:
        found = uses(tree, file.read_bytes())
    if as_json:
        print_json(found)
    else:
        rows = [(name or "none of these", "; ".join(served) or "nothing") for name, served in found.items()]
        typer.echo(tabulate(rows, ("key", "served of it"), tablefmt="plain"))
    if found.get(""):
        raise typer.Exit(Refused.exit_code)


@app.command()
def add_key(key: Annotated[Path, typer.Argument(help="The public half of the next key, PEM.")], file: KeyFile) -> None:
    """Believe one more key: before anything is signed with it. Servers read their file again by themselves."""
    from plumbline.promotion.registry.keys import add

    typer.echo("\n".join(add(file, key)))


@app.command()
def remove_key(
    key: Annotated[str, typer.Argument(help="Its id, or how that begins.")],
    file: KeyFile,
    stolen: Annotated[
        bool, typer.Option("--stolen", help="Also where something served is signed with it: no new pod loads that.")
    ] = False,
) -> None:
    """Believe a key no more; refused while an environment serves what it alone signed."""
    from plumbline.promotion.delivery.git import checkout
    from plumbline.promotion.registry.keys import remove

    with checkout(load(Settings)) as tree:
        lost = remove(tree, file, key, stolen=stolen)
    for line in lost:
        typer.secho(f"no new pod loads it: {line}; promote another version there", err=True, fg="red")


@app.command()
def judge(
    run: Annotated[str, typer.Option(help="MLflow run id.")],
    out: Annotated[Path, typer.Option(help="Write what was found to this file: what `register --judged` believes.")],
) -> None:
    """Open a finished run's model and rows, where no key is: made anew from git's data, loaded in a process apart."""
    from plumbline.promotion.gate.judged import judge as judge_run
    from plumbline.promotion.registry.client import Registry

    found = judge_run(Registry(), load(Settings), run)
    out.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    rows = (
        f"made anew from {found.data[:19]}…" if found.data else "as the run has them: no folder here defines the model"
    )
    typer.echo(f"parity: {found.parity:.3g} at most on {found.rows:,} rows, {rows}\ndigest {found.bundle}")


@app.command()
def register(
    run: Annotated[str, typer.Option(help="MLflow run id.")],
    judged: Annotated[
        Path | None, typer.Option(help="What `judge` wrote of the run: then neither model nor rows are opened here.")
    ] = None,
    version_file: Annotated[Path | None, typer.Option(help="Write the version alone to this file too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check, sign, number and describe a finished run's model; the last line is `version v1.0.0`."""
    from plumbline.promotion.gate.judged import Judged
    from plumbline.promotion.registry.client import Registry
    from plumbline.promotion.registry.register import register as register_run

    found = None if judged is None else Judged.read(judged)
    done = register_run(Registry(), load(Settings), run, found)
    if version_file is not None:
        version_file.write_text(str(done.version.semver), encoding="utf-8")
    if as_json:
        parity = done.parity and asdict(done.parity)
        print_json(asdict(done.version) | {"parity": parity, "same_bytes": done.same_bytes})
        return
    if done.same_bytes:
        rejected = f", which was rejected for {done.version.rejected}" if done.version.rejected else ""
        typer.echo(f"no new version: run {run} made the bytes of {done.version.semver}{rejected}; added to its lineage")
    elif done.parity is None:
        typer.echo(f"run {run} was registered before; nothing was changed")
    else:
        typer.echo(f"parity: {done.parity.largest:.3g} at most on {done.parity.rows:,} rows")
    typer.echo(f"digest {done.version.digest}\nversion {done.version.semver}")


@app.command("list")
def list_versions(
    model: Annotated[str, typer.Option(help="One model; all where it is left out.")] = "",
    condition: Annotated[
        str, typer.Option("--filter", help="MLflow's search, e.g. \"tags.lifecycle = 'Staging'\".")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Versions with life cycle, aliases, data and code."""
    from plumbline.promotion.registry.client import Registry

    parts = [f"name = '{_name(model)}'"] if model else []
    versions = Registry().search(" and ".join([*parts, *([condition] if condition else [])]))
    versions = sorted(versions, key=lambda item: (item.model, int(item.number)))
    if as_json:
        print_json([asdict(version) for version in versions])
        return
    if not versions:
        typer.echo("no such version is registered", err=True)
    for version in versions:
        state = f"{version.lifecycle}{', rejected' if version.rejected else ''}"
        made = f"code {version.tags['code.commit'][:12]} data {version.tags['data.digest'][:19]}"
        served = f" aliases {','.join(version.aliases)}" if version.aliases else ""
        typer.echo(f"{version.model} {version.semver} {state}{served} {version.digest[:19]} {made}")


@app.command()
def check(
    model: Model,
    version: Version,
    env: Env,
    image: Annotated[str, typer.Option(help="Judge this image too.")] = "",
    again: Again = "",
    report: Annotated[Path | None, typer.Option(help="Write the report, as JSON, to this file too.")] = None,
    awaiting_approval: Annotated[
        bool, typer.Option(help="Judge all but the approval, which is still to come.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print what each rule says; nothing is changed."""
    from plumbline.promotion.delivery.git import checkout
    from plumbline.promotion.gate.gate import Request, candidate, examine
    from plumbline.promotion.registry.client import Registry

    settings, request = load(Settings), Request(model, version, env, image or None, again, awaiting=awaiting_approval)
    with checkout(settings) as tree, candidate(Registry(), settings, model, version) as subject:
        judgement = examine(tree, request, subject)
    typer.echo(judgement.to_json() if as_json else judgement.table())
    if report is not None:
        report.write_text(judgement.to_json(), encoding="utf-8")
    judgement.require()


@app.command("run")
def promote(
    model: Model,
    version: Version,
    env: Env,
    image: Annotated[str, typer.Option(help="The server's image with its digest; if not given, the one in use.")] = "",
    dry_run: Annotated[bool, typer.Option(help="Show the diff and the verdicts; change nothing.")] = False,
    pull_request: Annotated[
        Path | None,
        typer.Option(
            help="Push a branch, open its pull request if PROMOTION_FORGE is set, write its description to this file."
        ),
    ] = None,
    again: Again = "",
    as_json: AsJson = False,
) -> None:
    """Commit to git that an environment serves a version, if every rule passes."""
    from plumbline.promotion.delivery import promote as promotion
    from plumbline.promotion.gate.gate import Request
    from plumbline.promotion.registry.client import Registry

    settings, registry = load(Settings), Registry()
    request = Request(model, version, env, image or None, again, pull_request is not None)
    how: promotion.How = "dry run" if dry_run else "pull request" if pull_request else "commit"
    outcome = promotion.promote(registry, settings, request, how)
    say = partial(typer.echo, err=as_json)
    if as_json:
        print_json(asdict(outcome))
    if outcome.judgement is None:
        say(f"{env} serves {model} {version} already; nothing to do")
    else:
        say(f"{outcome.judgement.table()}\n\n{outcome.diff}")
        outcome.judgement.require()
    if pull_request is not None and outcome.commit:
        card = promotion.card_of(registry, model, version)
        pull_request.write_text(promotion.pull_request(request, outcome, card), encoding="utf-8")
        say(f"branch {outcome.branch}; description in {pull_request}")
        if outcome.waiting:
            say(f"waiting for {outcome.waiting}")
    elif outcome.waiting:
        say(f"waiting for {outcome.waiting}")
    elif not dry_run and pull_request is None:
        if outcome.commit:
            say(f"commit {outcome.commit} on {outcome.branch}")
        _follow(registry, settings, model, err=as_json)


@app.command()
def served(env: Env, out: Annotated[Path, typer.Option(help="Folder to write, for a Workflow.")]) -> None:
    """Write what git says that an environment serves: models.json, releases/<model>.yaml, and the policies."""
    from plumbline.promotion.delivery.git import checkout
    from plumbline.promotion.delivery.served import write

    with checkout(load(Settings)) as tree:
        for model in write(tree, env, out):
            typer.echo(f"{model['model']} {model['version']}")


@app.command()
def approve(
    model: Model,
    version: Version,
    env: Env,
    image: Annotated[str, typer.Option(help="The server's image with its digest; if not given, the one in use.")] = "",
    reason: Annotated[str, typer.Option(help="Why it may be served.")] = "",
    length: Annotated[str, typer.Option("--for", help="It ends by itself: 12h, 14d; 90d at most.")] = "14d",
    detached: Annotated[
        bool, typer.Option(help="Print the signed approval as one line, for --signed or a Workflow's form.")
    ] = False,
    signed: Annotated[str, typer.Option(help="Commit what --detached printed, whoever it is that brings it.")] = "",
    again: Again = "",
    pull_request: PullRequest = False,
) -> None:
    """Judge a version and sign, with PROMOTION_APPROVER_KEY, that an environment may serve it; git keeps it."""
    from plumbline.promotion.delivery import approve as approving
    from plumbline.promotion.gate.gate import Request
    from plumbline.promotion.registry.client import Registry

    settings, registry = _settings(pull_request), Registry()
    request = Request(model, version, env, image or None, again)
    if signed:
        text = approving.from_line(signed)
    elif not detached and (given := approving.standing(registry, settings, request)) is not None:
        typer.echo(f"{model} {version} is approved already: {given}")
        return
    else:
        text, judgement = approving.sign(registry, settings, request, reason, duration(length))
        typer.echo(judgement.table(), err=detached)
    if detached:
        typer.echo(approving.one_line(text))
        return
    given, delivered = approving.record(settings, request, text)
    typer.echo(f"approved by {given}")
    typer.echo(str(delivered) if delivered else "git says so already")


@app.command()
def reject(
    model: Model,
    version: Version,
    metric: Annotated[str, typer.Option(help="What failed, e.g. error-rate.")],
    reason: Annotated[str, typer.Option(help="How it failed.")],
    pull_request: PullRequest = False,
) -> None:
    """Bar a version's bytes and take it out of every environment, in one commit; 10 where one still serves it."""
    from plumbline.promotion.delivery import governance
    from plumbline.promotion.delivery.governance import stranded
    from plumbline.promotion.registry.client import Registry

    settings, registry = _settings(pull_request), Registry()
    done = governance.reject(registry, settings, model, version, metric, reason)
    for environment, moved in done.reverted.items():
        typer.echo(f"{environment}: {moved}")
    typer.echo(str(done.delivered) if done.delivered else f"{model} {version} is barred already")
    for line in done.skipped:
        typer.echo(line)
    if done.delivered is None or not done.delivered.waiting:
        _follow(registry, settings, model)
    for environment in done.stranded:
        typer.secho(f"barred, and {stranded(environment, model, version)}", err=True, fg="red")
    if done.stranded:
        raise typer.Exit(Refused.exit_code)


OneModel = Annotated[str, typer.Option("--model", help="One model; every one of the environment if not given.")]


@app.command()
def hold(
    env: Env,
    by: Annotated[str, typer.Option(help="Who answers for it.")],
    reason: Annotated[str, typer.Option(help="Why nothing may move.")],
    length: Annotated[str, typer.Option("--for", help="It ends by itself: 4h, 3d; 90d at most.")],
    model: OneModel = "",
) -> None:
    """Let no automation move a model of an environment, or without --model any: a freeze. Recorded in git."""
    from plumbline.promotion.delivery import hold as holds

    one = _name(model) if model else None
    record, delivered = holds.hold(load(Settings), _environment(env), one, by, reason, duration(length))
    typer.echo(f"{record}\n{delivered}")


@app.command()
def thaw(
    env: Env,
    by: Annotated[str, typer.Option(help="Who answers for it.")],
    reason: Annotated[str, typer.Option(help="Why it may move again.")],
    model: OneModel = "",
) -> None:
    """End a hold, or without --model the freeze of the environment, before its time."""
    from plumbline.promotion.delivery import hold as holds

    delivered = holds.thaw(load(Settings), _environment(env), _name(model) if model else None, by, reason)
    typer.echo(str(delivered) if delivered else f"{model or env} is not {'held' if model else 'frozen'}")


@app.command()
def resume(model: Model) -> None:
    """Have the canary of the cluster at hand judged again, which an inconclusive analysis paused."""
    from plumbline.promotion.delivery import step
    from plumbline.promotion.delivery.cluster import Cluster

    typer.echo(f"{model}: {step.resume(Cluster(), _name(model))}")


@app.command()
def skip(
    model: Model,
    env: Env,
    by: Annotated[str, typer.Option(help="Who answers for it.")],
    reason: Annotated[str, typer.Option(help="Why it may go on unjudged.")],
) -> None:
    """Let the canary of the cluster at hand pass one inconclusive step; who and why is recorded in git first."""
    from plumbline.promotion.delivery import step
    from plumbline.promotion.delivery.cluster import Cluster

    delivered, number = step.skip(load(Settings), Cluster(), _environment(env), _name(model), by, reason)
    goes_on = (
        "" if delivered is not None and delivered.waiting else f"goes on after step {number} without its verdict; "
    )
    typer.echo(f"{model}: {goes_on}{delivered or 'git says so already'}")


@app.command()
def sync(model: Model) -> None:
    """Make the registry say what git says: marks, and where no cluster is followed life cycle and aliases too."""
    from plumbline.promotion.delivery import follow
    from plumbline.promotion.delivery.git import checkout
    from plumbline.promotion.registry.client import Registry

    settings = load(Settings)
    facts: follow.Facts | None = {} if settings.follows == "cluster" else None
    with checkout(settings) as tree:
        for line in follow.sync(Registry(), tree, _name(model), facts):
            typer.echo(line)


Models = Annotated[list[str] | None, typer.Option("--model", help="Again for each; every served one if not given.")]


@app.command()
def reconcile(
    env: Env,
    model: Models = None,
    alertmanager: Annotated[
        str, typer.Option(envvar="MONITORING_ALERTMANAGER_URL", help="Told of a configuration whose canary failed.")
    ] = "",
    length: Annotated[
        str, typer.Option("--for", help="Do it each minute for so long, e.g. 55m; once if not given.")
    ] = "",
    pull_request: PullRequest = False,
    as_json: AsJson = False,
) -> None:
    """Do the next step towards git, cluster and registry agreeing; safe at any time, and again. JSON: a line a step."""
    from plumbline.promotion.delivery import reconcile as reconciliation
    from plumbline.promotion.delivery.cluster import Cluster
    from plumbline.promotion.registry.client import Registry

    def warn(model: str, text: str) -> None:
        from plumbline.monitoring.alert import AlertError, send

        if not alertmanager:
            return
        try:
            send(alertmanager, "ConfigurationAborted", f"{model}({env})", text)
        except AlertError as error:  # git, cluster and registry agree all the same
            typer.secho(str(error), err=True)

    settings = _settings(pull_request)
    lasts = duration(length) if length else timedelta(0)
    steps = reconciliation.reconcile(Registry(), settings, Cluster(), env, list(map(_name, model or [])), warn, lasts)
    for step in steps:  # each is said when it is done: a later one may fail
        typer.echo(json.dumps(step._asdict()) if as_json else f"{step.model}({step.environment}): {step.did}")


@app.command()
def status(env: Env, model: Models = None, as_json: AsJson = False) -> None:
    """Print what git, cluster and registry say side by side; exit code 10 where they differ or what is named is barred.

    Exit code 11 where git's files of a model can't be read and all else agrees. Where no cluster is configured it is
    not asked, and the verdict is about git and registry.
    """
    from plumbline.promotion.delivery import reconcile as reconciliation
    from plumbline.promotion.delivery.cluster import Cluster
    from plumbline.promotion.registry.client import Registry

    cluster = Cluster() if Cluster.is_configured() else None
    rows = reconciliation.status(Registry(), load(Settings), cluster, env, [_name(name) for name in model or []])
    if as_json:
        print_json([row._asdict() for row in rows])
    else:
        sides = [row[:-1] for row in rows]
        typer.echo(
            tabulate(sides, ("model", "git", "cluster", "registry", ""), tablefmt="plain", disable_numparse=True)
        )
        for row in rows:
            if row.reason:
                typer.echo(f"{row.model}: {row.reason}")
    verdicts = {row.verdict for row in rows} - {"agree"}
    if verdicts:
        raise typer.Exit(Inconclusive.exit_code if verdicts == {"unknown"} else Refused.exit_code)


@app.command()
def releases(
    model: Models = None,
    env: Annotated[str, typer.Option("--env", help="One environment; all where it is left out.")] = "",
    history: Annotated[bool, typer.Option("--history", help="What was served before as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what each environment serves, since when and by whom, from git alone."""
    from plumbline.promotion.delivery.git import checkout
    from plumbline.promotion.delivery.records import require_environment
    from plumbline.promotion.delivery.releases import Since
    from plumbline.promotion.delivery.releases import releases as releases_of

    with checkout(load(Settings)) as tree:
        if env:
            require_environment(tree, env)
        rows = list(releases_of(tree, list(map(_name, model or [])), env, history=history))
    if as_json:
        print_json([row._asdict() for row in rows])
    elif rows:
        typer.echo(tabulate(rows, Since._fields, tablefmt="plain", disable_numparse=True))
    else:
        typer.echo("no environment serves such a model", err=True)


@app.command()
def transition(
    model: Model, version: Version, to: Annotated[str, typer.Option(help="Staging, Production or Archived.")]
) -> None:
    """Move a version in its life cycle by hand; illegal moves are refused. What git serves is moved by `sync`."""
    from plumbline.promotion.delivery.follow import move_by_hand
    from plumbline.promotion.delivery.git import checkout
    from plumbline.promotion.registry.client import Registry
    from plumbline.promotion.registry.lifecycle import Lifecycle

    if to not in set(Lifecycle):
        raise Misuse(f"--to {to!r}: expected one of {', '.join(Lifecycle)}")
    with checkout(load(Settings)) as tree:
        move_by_hand(Registry(), tree, _name(model), version, Lifecycle(to))
    typer.echo(f"{model} {version} is {to}")


@app.command()
def archive(model: Model, version: Version) -> None:
    """Archive a version that no environment serves."""
    transition(model, version, "Archived")


@app.command()
def archive_unused(older_than: Annotated[str, typer.Option(help="Since they were made, e.g. 180d.")]) -> None:
    """Archive versions that no environment ever took; the newest of a model is kept."""
    from plumbline.promotion.delivery import follow
    from plumbline.promotion.delivery.git import checkout
    from plumbline.promotion.registry.client import Registry

    with checkout(load(Settings)) as tree:
        for version in follow.archive_unused(Registry(), tree, duration(older_than) / timedelta(days=1)):
            typer.echo(f"{version.model} {version.semver} is Archived")


@app.command("card")
def show_card(
    model: Model,
    version: Version,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file.")] = None,
) -> None:
    """Render the model card anew with today's life cycle and approval, store it, and print it."""
    from plumbline.promotion.delivery.git import checkout
    from plumbline.promotion.registry.card import render_again
    from plumbline.promotion.registry.client import Registry

    with checkout(load(Settings)) as tree, tempfile.TemporaryDirectory(prefix="promotion-") as folder:
        text, page = render_again(Registry(), tree, _name(model), version, Path(folder))
        if html is not None:
            html.write_bytes(page.read_bytes())
        typer.echo(text.read_text(encoding="utf-8"))


@app.command()
def audit(
    path: Annotated[Path, typer.Option(help="Work tree of the repository.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Check every release.yaml, policy and record of a work tree against the registry: for pull requests."""
    from plumbline.promotion.gate.audit import audit as audit_tree
    from plumbline.promotion.registry.client import Registry

    problems, judged = audit_tree(Registry(), load(Settings), path)
    if as_json:
        print_json({"judged": judged, "refused": problems})
    else:
        for problem in problems:
            typer.secho(problem, err=True, fg="red")
        typer.echo(f"{judged} files judged, {len(problems)} refused")
    if problems:
        raise typer.Exit(Refused.exit_code)


def _environment(name: str) -> str:
    """An environment's name before it becomes a path."""
    from plumbline.core.names import plain_name

    return plain_name(name, "environment", like="staging")


@app.command()
def forge_check(as_json: AsJson = False) -> None:
    """Compare the live rules of the branch with those that the design relies on; 10 where one is missing."""
    from plumbline.promotion.delivery.forge import RELIES_ON, connect

    settings = load(Settings)
    rules = connect(settings).rules(settings.branch)
    held = {rule: rules.get(rule) for rule in RELIES_ON}
    if as_json:
        print_json(held)
    else:
        words = {True: "yes", False: "no", None: "unknown: the token may not see it"}
        typer.echo(tabulate([(rule, words[held[rule]], RELIES_ON[rule]) for rule in RELIES_ON], tablefmt="plain"))
    if False in held.values():
        raise typer.Exit(Refused.exit_code)
    if None in held.values():
        raise typer.Exit(Inconclusive.exit_code)


def _settings(pull_request: bool) -> Settings:
    """Settings of a command that writes; raises Misuse where a pull request is asked for and no forge is set."""
    settings = load(Settings)
    if pull_request and not settings.forge:
        raise Misuse("--pull-request: PROMOTION_FORGE is not set; expected github, gitlab or gitea (docs/promotion.md)")
    return settings


def _name(model: str) -> str:
    """A model's name before it becomes a path or a search."""
    from plumbline.core.names import plain_name

    return plain_name(model, "model", like="flights")


def _follow(registry: "object", settings: Settings, model: str, err: bool = False) -> None:
    """Bring the registry after git, which has the truth by now: `plumbline promote sync` repairs what fails here."""
    from plumbline.promotion.delivery import follow
    from plumbline.promotion.delivery.git import checkout
    from plumbline.promotion.registry.client import Registry

    assert isinstance(registry, Registry)  # noqa: S101 - imported late
    if settings.follows == "cluster":
        typer.echo("the registry follows when the cluster serves it: `plumbline promote reconcile`", err=err)
        return
    try:
        with checkout(settings) as tree:
            for line in follow.sync(registry, tree, model):
                typer.echo(line, err=err)
    except PlumblineError as error:
        typer.secho(
            f"git is done, the registry not yet: {error}. Run `plumbline promote sync --model {model}`", err=True
        )
