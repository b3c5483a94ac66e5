"""Legal trees, as people and promotion leave them: each seed makes some of the changes below to a tree.

`python tests/trees.py FOLDER SEED` copies this checkout to FOLDER, with one commit, and changes the copy.
"""

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from approvals import Approver, approvers

from plumbline.core.release import Artifact, Evidence, Lineage, Metadata, Release, Spec, parse_release
from plumbline.monitoring.experiment import route
from plumbline.monitoring.experiment.policy import Experiment
from plumbline.monitoring.policy import read_policy
from plumbline.promotion.delivery.approval import APPROVERS, Wanted
from plumbline.promotion.delivery.documents import BY_MERGE, Barred, Override, barred_path, dump
from plumbline.promotion.delivery.release_text import edit, new_text
from plumbline.tree.render.build import READ, environments
from plumbline.tree.values import read_values

ROOT = Path(__file__).parents[1]
AT = "2026-11-23T12:00:00Z"
# The first is what `make demo` writes, the others have the names that a person's own registry has.
IMAGES = ("localhost/model-server", "ghcr.io/plumbline/model-server", "registry.example.com:5000/team/model-server")
# What people are called includes what YAML takes for something else. The first is nobody.
PEOPLE = {name: Approver(name) for name in ("Ada", "4711", "null", "Bö \\ 'Q': #1")}
NAMES = ("", BY_MERGE, *PEOPLE)


def release(model: str, version: str, chance: random.Random, approved: bool, environment: str = "local") -> Release:
    """A release of this version that promotion may have written."""
    images = IMAGES if environment == "local" else IMAGES[1:]

    def digits(count: int) -> str:
        return f"{chance.getrandbits(4 * count):0{count}x}"

    spec = Spec(
        version=version,
        image=f"{chance.choice(images)}@sha256:{digits(64)}",
        artifact=Artifact(
            uri=f"s3://models/{digits(8)}", digest=f"sha256:{digits(64)}", schemaDigest=f"sha256:{digits(64)}"
        ),
        threshold=chance.choice([None, 0.0, 0.37, 1.0]),
        lineage=Lineage(
            registryVersion=str(chance.randint(1, 40)),
            run=digits(32),
            code=digits(40),
            data=f"sha256:{digits(64)}",
            workflow=chance.choice(["", "train-model-x7k2p"]),
        ),
        evidence=Evidence(gate=f"sha256:{digits(64)}", approvedBy=chance.choice(NAMES[approved:])),
    )
    metadata = Metadata(name=model, annotations={"config.kubernetes.io/local-config": "true"})
    return Release(apiVersion="plumbline.dev/v1", kind="Release", metadata=metadata, spec=spec)


def write(tree: Path, name: str, text: str) -> None:
    """Write a file of the tree, with its folder."""
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(text, encoding="utf-8")


def folders(tree: Path) -> list[Path]:
    """The folders of models, of all environments."""
    return sorted(path.parent for path in tree.glob("clusters/*/models/*/canary.yaml"))


def ladder(file: Path, *weights: int) -> None:
    """Write the weights of a canary.yaml; what judges them and the comments stay."""
    head, steps = file.read_text(encoding="utf-8").split("    - setWeight: ", 1)
    judged = "    - analysis: *verdict\n"
    anchored = "    - analysis: &verdict\n" + steps.split("    - analysis: &verdict\n")[1].split("    - setWeight: ")[0]
    rungs = [f"    - setWeight: {weight}\n{anchored if weight == weights[0] else judged}" for weight in weights]
    file.write_text(head + "".join(rungs), encoding="utf-8")


def other_weights(tree: Path, chance: random.Random) -> None:
    """Each ladder climbs otherwise, in one to five rungs."""
    for folder in folders(tree):
        ladder(folder / "canary.yaml", *sorted(chance.sample(range(1, 100), chance.randint(0, 4))), 100)


def other_sizes(tree: Path, chance: random.Random) -> None:
    """Model servers of an environment ask for more, and its Prometheus has other sizes."""
    for environment in environments(tree):
        servers = tree / f"clusters/{environment}/model-server/kustomization.yaml"
        text = servers.read_text(encoding="utf-8")
        cpu = f"{chance.randint(200, 2000)}m"
        most = chance.randint(5, 20)
        patches = "" if "\npatches:\n" in text else "patches:\n"
        more = f"""{patches}\
  - target: {{kind: Rollout}}
    patch: |-
      - {{op: replace, path: /spec/template/spec/containers/0/resources/requests/cpu, value: {cpu}}}
  - target: {{kind: ScaledObject}}
    patch: |-
      - {{op: replace, path: /spec/maxReplicaCount, value: {most}}}
"""
        write(tree, str(servers.relative_to(tree)), text + more)
        monitoring = tree / f"clusters/{environment}/workloads/monitoring/kustomization.yaml"
        text = monitoring.read_text(encoding="utf-8")
        text += "" if "\npatches:\n" in text else "patches:\n"
        more = f"""\
  - target: {{kind: Prometheus}}
    patch: |-
      - {{op: replace, path: /spec/replicas, value: {chance.randint(2, 4)}}}
"""
        write(tree, str(monitoring.relative_to(tree)), text + more)


def _routes(tree: Path) -> None:
    """What `plumbline monitor experiment route` writes, for every policy."""
    for path in sorted(tree.glob("policies/experiments/*.yaml")):
        rules = read_policy(path, Experiment, path.stem)
        written = route.path(tree / "policies", rules.model)
        written.parent.mkdir(exist_ok=True)
        written.write_text(route.text(rules), encoding="utf-8")


def other_limits(tree: Path, chance: random.Random) -> None:
    """The policies ask for other figures."""
    for path in sorted(tree.glob("policies/promotion/*.yaml")):
        policy = yaml.safe_load(path.read_text(encoding="utf-8"))
        policy["spec"]["rules"] |= {"size_mb": chance.randint(1, 90), "latency_p95_ms": chance.randint(1, 90)}
        policy["spec"]["rules"]["champion"] |= {"seed": chance.randint(0, 9000), "confidence": 0.9}
        policy["spec"]["rules"]["card"] = policy["spec"]["rules"]["card"][:2]
        path.write_text(yaml.safe_dump(policy, sort_keys=False, width=110), encoding="utf-8")
    for path in sorted(tree.glob("policies/experiments/*.yaml")):
        policy = yaml.safe_load(path.read_text(encoding="utf-8"))
        policy |= {"share": 0.4, "alpha": 0.01, "salt": str(chance.random()), "weeks": [chance.randint(2, 9), 12]}
        path.write_text(yaml.safe_dump(policy, sort_keys=False, width=110), encoding="utf-8")
    _routes(tree)
    for path in sorted(tree.glob("policies/drift/*.yaml")):
        policy = yaml.safe_load(path.read_text(encoding="utf-8")) | {"sample": chance.randint(1000, 1900)}
        path.write_text(yaml.safe_dump(policy, sort_keys=False, width=110), encoding="utf-8")


def served(tree: Path, chance: random.Random) -> None:
    """Some environments serve something, each its own; some after a second promotion, some after a rollback."""
    for folder in folders(tree):
        history = chance.randint(0, 3)
        if not history:
            continue
        model, path = folder.name, folder / "release.yaml"
        approved = "admission/guarded" in (folder.parents[1] / "admission/kustomization.yaml").read_text()
        about = (chance, approved, folder.parents[1].name)
        first, second = (release(model, version, *about) for version in ("v1.0.0", "v1.1.0"))
        texts = [new_text(first)]
        texts.append(edit(texts[0], second))
        texts.append(edit(texts[1], first, earlier_text=texts[0]))
        path.write_text(texts[history - 1], encoding="utf-8")
        if approved:
            _answered_for(tree, path)


def _answered_for(tree: Path, path: Path) -> None:
    """Whoever the release names has signed for it; others came by a pull request that was reviewed."""
    item = parse_release(path.read_text(encoding="utf-8"))
    if (by := item.spec.evidence.approvedBy) != BY_MERGE:
        write(tree, *PEOPLE[by].approval(path.parents[2].name, item))
    write(tree, APPROVERS, approvers(*(one.entry(*environments(tree)) for one in PEOPLE.values()), reviews=True))


def _releases(tree: Path) -> Iterator[Release]:
    for path in sorted(tree.glob("clusters/*/models/*/release.yaml")):
        yield parse_release(path.read_text(encoding="utf-8"))


def approved(tree: Path, _: random.Random) -> None:
    """Whatever is served has an approval."""
    write(tree, APPROVERS, approvers(*(one.entry(*environments(tree)) for one in PEOPLE.values()), reviews=True))
    for path in sorted(tree.glob("clusters/*/models/*/release.yaml")):
        environment, item = path.parents[2].name, parse_release(path.read_text(encoding="utf-8"))
        if not (tree / Wanted.of(environment, item).path).exists():
            write(tree, *PEOPLE["Ada"].approval(environment, item))


def barred(tree: Path, chance: random.Random) -> None:
    """A release that is not served is barred, and those that are were, until somebody lifted it."""
    for item in [*_releases(tree), release(folders(tree)[0].name, "v0.9.0", chance, True)]:
        about: dict[str, Any] = {"model": item.model, "version": item.spec.version, "digest": item.spec.artifact.digest}
        lifted = None if item.spec.version == "v0.9.0" else Override(by="Ada", reason="the gateway was at fault", at=AT)
        record = Barred(**about, metric="error-share", reason="too many", at=AT, override=lifted)
        write(tree, barred_path(item.model, item.spec.artifact.digest), dump(record))


def one_model_less(tree: Path, chance: random.Random) -> None:
    """One of the models is removed, as `plumbline remove-model` does it."""
    models = sorted({folder.name for folder in folders(tree)})
    if len(models) > 1:
        without_models(tree, chance.choice(models))


def another_model(tree: Path, chance: random.Random) -> None:
    """One or two models more, each a copy of one that there is."""
    # The first is what the guide and tests call theirs.
    for name in chance.sample(("churn", "terns", "null"), chance.randint(1, 2)):
        model = chance.choice(folders(tree)).name
        made = [*tree.glob(f"clusters/*/models/{model}"), *tree.glob(f"policies/*/{model}.yaml")]
        for path in [*made, tree / "app-src/models" / model]:
            new = path.with_name(f"{name}{path.suffix}")
            if path.is_dir():
                shutil.copytree(path, new, ignore=shutil.ignore_patterns("__pycache__", "release.yaml"))
            else:
                shutil.copyfile(path, new)
            for file in [new] if new.is_file() else [*new.rglob("*.yaml")]:
                text = file.read_text(encoding="utf-8").replace(f"{model}-", f"{name}-")
                text = re.sub(rf'(name|model): "?{model}"?$', rf'\1: "{name}"', text, flags=re.MULTILINE)
                file.write_text(text.replace(f"--model {model} ", f"--model {name} "), encoding="utf-8")
            for file in new.rglob("*.py"):
                text = file.read_text(encoding="utf-8").replace(f'model="{model}"', f'model="{name}"')
                file.write_text(text, encoding="utf-8")
    _routes(tree)


def another_environment(tree: Path, chance: random.Random) -> None:
    """One environment more, between staging and production."""
    shutil.copytree(tree / "clusters/staging", tree / "clusters/preview")
    for path in filter(Path.is_file, (tree / "clusters/preview").rglob("*")):
        text = re.sub(r"(?<!admission/)\bstaging\b", "preview", path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
    for path in sorted(tree.glob("policies/promotion/*.yaml")):
        policy = yaml.safe_load(path.read_text(encoding="utf-8"))
        policy["spec"]["environments"]["preview"] = {"lifecycle": "Staging", "after": "staging"}
        policy["spec"]["environments"]["production"]["after"] = chance.choice(["staging", "preview"])
        path.write_text(yaml.safe_dump(policy, sort_keys=False, width=110), encoding="utf-8")


# In an order in which each finds what it needs; the first ones make what the later ones change.
CHANGES = (
    one_model_less,
    another_model,
    another_environment,
    other_weights,
    other_sizes,
    other_limits,
    served,
    approved,
    barred,
)


def change(tree: Path, seed: int) -> list[str]:
    """Make some of the changes; gives their names. Seed 0 makes all of them."""
    chance = random.Random(seed)
    chosen = [item for item in CHANGES if seed == 0 or chance.random() < 0.5]
    for item in chosen:
        item(tree, chance)
    # A registry of one's own is a line in the policy; that of a laptop's images is known to `local` alone.
    policy = tree / "policies/admission/registries.yaml"
    text, ours = policy.read_text(encoding="utf-8"), "variables.here + [\n"
    assert ours in text
    own = IMAGES[-1].partition("/")[0]
    policy.write_text(text.replace(ours, f"{ours}        '{own}/',\n"), encoding="utf-8")
    return [item.__name__ for item in chosen]


def copy(folder: Path, links: Sequence[str] = (".venv", ".venv-serving", ".venv-checkov", ".cache")) -> None:
    """This checkout with what is not ignored, without its history; what was made in it is linked."""
    names = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(names, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in links:
        if (ROOT / name).exists() and not (folder / name).exists():
            (folder / name).symlink_to((ROOT / name).resolve())


def with_model(tree: Path, name: str) -> None:
    """What git declares of a model of this name, as `plumbline new-model` writes it, if the tree has none.

    Tests that name one of the repository's models must pass where a person removed it too.
    """
    known = environments(tree)
    if all((tree / f"clusters/{environment}/models/{name}").is_dir() for environment in known):
        return
    from plumbline.scaffold import example, files, look

    data = example.csv("binary")
    found = look.look(data, "the example", "binary", "", "")
    values = [read_values(tree, environment) for environment in known]
    for path, content in files.texts(name, found, data, values, "nobody@example.com").items():
        if path.split("/")[0] in READ and not (tree / path).exists():
            write(tree, path, content.decode())


def without_models(tree: Path, *names: str) -> None:
    """Take models away as `plumbline remove-model` does it; tests that make a model find no person's of that name."""
    from plumbline.scaffold.files import places

    for place in [tree / place for name in names for place in places(name, environments(tree))]:
        if place.exists():
            (shutil.rmtree if place.is_dir() else Path.unlink)(place)


def commit(folder: Path) -> None:
    """All that is there in one commit, as tests that ask git expect it."""
    author = ("-c", "user.name=test", "-c", "user.email=test@plumbline.dev")
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    # Here they are links, which a pattern for folders does not match.
    with (folder / ".git/info/exclude").open("a") as exclude:
        exclude.write(".venv*\n.cache\n")
    for command in (["add", "-A"], ["commit", "-q", "-m", "as it was left"]):
        subprocess.run(["git", "-C", folder, *author, *command], check=True)


if __name__ == "__main__":
    copy(Path(sys.argv[1]))
    print(f"seed {sys.argv[2]}: {', '.join(change(Path(sys.argv[1]), int(sys.argv[2])))}")
    commit(Path(sys.argv[1]))
