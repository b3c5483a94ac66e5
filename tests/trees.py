"""Trees as people and promotion leave them: what anybody may change in git without asking, drawn by a seed."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import yaml

from plumbline.core.release import Release, parse_release
from plumbline.promotion.delivery.documents import Approval, Barred, approval_path, barred_path, dump, release_path
from plumbline.promotion.delivery.release_text import edit, new_text
from plumbline.tree.render.build import environments
from plumbline.tree.render.example import example_release

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_SERVERS = ("ghcr.io/plumbline/model-server", "localhost/model-server", "registry.example.org:5000/team/server")
_PEOPLE = ("Ada", "4711", "true", "Bö: the first #1", "whoever merged the pull request")


def models(root: Path) -> list[str]:
    """The models that have a folder in any environment."""
    return sorted({path.parent.name for path in root.glob("clusters/*/models/*/canary.yaml")})


def release(random: Random, model: str, version: int, *, approved: bool) -> Release:
    """A release that promotion could have written."""

    def digest() -> str:
        return f"sha256:{random.getrandbits(256):064x}"

    spec = parse_release(example_release(model)).model_dump()["spec"]
    spec |= {
        "version": f"v1.{version}.{random.randrange(3)}",
        "image": f"{random.choice(_SERVERS)}@{digest()}",
        "threshold": random.choice([None, 0, 0.5, 0.123456789, 1]),
        "artifact": {"uri": f"s3://models/{model}/{version}", "digest": digest(), "schemaDigest": digest()},
        "evidence": {"gate": digest(), "approvedBy": random.choice(_PEOPLE) if approved else ""},
    }
    return Release.model_validate(
        {**yaml.safe_load(example_release(model)), "spec": spec},
    )


def promote(root: Path, random: Random) -> None:
    """An environment serves another version; what production serves was approved."""
    environment, model = random.choice(environments(root)), random.choice(models(root))
    approved = environment == "production" or random.random() < 0.3
    path = root / release_path(environment, model)
    served = release(random, model, random.randrange(9), approved=approved)
    if approved:
        _write(root / approval_path(model, served.spec.version), dump(_approval(served)))
    path.write_text(edit(path.read_text(), served) if path.exists() else new_text(served), encoding="utf-8")


def roll_back(root: Path, random: Random) -> None:
    """A version that failed is barred, and what served before serves again."""
    environment, model = random.choice(environments(root)), random.choice(models(root))
    good, bad = (release(random, model, number, approved=True) for number in (1, 2))
    digest = random.choice([bad.spec.artifact.digest, bad.spec.image.rpartition("@")[2]])
    record = Barred(
        model=model, version=bad.spec.version, digest=digest, metric="p95", reason="0.9 is above 0.5", at=_NOW
    )
    _write(root / barred_path(model, digest), dump(record))
    text = edit(new_text(bad), good, earlier_text=new_text(good))
    (root / release_path(environment, model)).write_text(text, encoding="utf-8")


def stop_serving(root: Path, random: Random) -> None:
    """A model is taken out of an environment."""
    environment, model = random.choice(environments(root)), random.choice(models(root))
    (root / release_path(environment, model)).unlink(missing_ok=True)


def change_weights(root: Path, random: Random) -> None:
    """Another ladder: other weights, a rung more or fewer."""
    path = random.choice(sorted(root.glob("clusters/*/models/*/canary.yaml")))
    head, _, steps = path.read_text(encoding="utf-8").partition("  steps:\n")
    first = "".join(steps.splitlines(keepends=True)[1:6])
    weights = [*sorted(random.sample(range(1, 100), random.randrange(4))), 100]
    rest = "    - analysis: *verdict"
    rungs = [f"    - setWeight: {weight}\n{rest if rung else first.rstrip()}\n" for rung, weight in enumerate(weights)]
    path.write_text(f"{head}  steps:\n{''.join(rungs)}", encoding="utf-8")


def change_size(root: Path, random: Random) -> None:
    """More or larger pods of an environment's model servers."""
    path = root / "clusters" / random.choice(environments(root)) / "model-server/kustomization.yaml"
    text = path.read_text(encoding="utf-8")
    text += "" if "\npatches:\n" in text else "patches:\n"
    patches = [
        f"/spec/template/spec/containers/0/resources/requests/cpu, value: {random.randrange(50, 900)}m",
        f"/spec/replicas, value: {random.randrange(2, 9)}",
    ]
    text += f"  - target: {{kind: Rollout}}\n    patch: |-\n      - {{op: replace, path: {random.choice(patches)}}}\n"
    path.write_text(text, encoding="utf-8")


def change_policy(root: Path, random: Random) -> None:
    """Stricter or laxer limits of a model's gate, a larger sample of its drift check."""
    model = random.choice(models(root))
    path = root / f"policies/promotion/{model}.yaml"
    text = path.read_text(encoding="utf-8").splitlines(keepends=True)
    text = [_limit(line, "latency_p95_ms: ", random) for line in text]
    path.write_text("".join(text), encoding="utf-8")
    path = root / f"policies/drift/{model}.yaml"
    text = [_limit(line, "sample: ", random) for line in path.read_text(encoding="utf-8").splitlines(keepends=True)]
    path.write_text("".join(text), encoding="utf-8")


def add_model(root: Path, random: Random) -> None:
    """A model more, as the guide adds one: what belongs to another one under a name of its own."""
    like, name = random.choice(models(root)), f"model-{random.randrange(10**6)}"
    found = [path for path in root.rglob(f"{like}*") if path.stem == like or path.name == like]
    for path in found:
        if path.parts[len(root.parts)] not in ("clusters", "policies", "app-src"):
            continue
        new = path.with_name(path.name.replace(like, name))
        if path.is_dir():
            shutil.copytree(path, new)
        else:
            new.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        for file in [new] if new.is_file() else [item for item in new.rglob("*.yaml") if item.is_file()]:
            file.write_text(file.read_text(encoding="utf-8").replace(like, name), encoding="utf-8")


def add_environment(root: Path, random: Random) -> None:
    """An environment more: a copy of one, with its own name."""
    like, name = random.choice(["staging", "production"]), f"quality-{random.randrange(10**6)}"
    new = root / "clusters" / name
    shutil.copytree(root / "clusters" / like, new)
    for path in (new / "environment.yaml", new / "services/services.env"):
        path.write_text(path.read_text(encoding="utf-8").replace(like, name), encoding="utf-8")


CHANGES: tuple[Callable[[Path, Random], None], ...] = (
    promote, roll_back, stop_serving, change_weights, change_size, change_policy, add_model, add_environment,
)  # fmt: skip


def grow(root: Path, seed: int) -> list[str]:
    """Change a tree as 2 to 12 commits of people and promotion would; returns what was done."""
    random = Random(seed)
    changes = random.choices(CHANGES, weights=(6, 2, 1, 4, 2, 2, 1, 1), k=random.randrange(2, 13))
    for change in changes:
        change(root, random)
    return [change.__name__ for change in changes]


def _approval(served: Release) -> Approval:
    return Approval(
        model=served.model, version=served.spec.version, digest=served.spec.artifact.digest, by="Ada", reason="read it",
        at=_NOW,
    )  # fmt: skip


def _limit(line: str, field: str, random: Random) -> str:
    before, found, _ = line.partition(field)
    return f"{before}{field}{random.randrange(50, 5000)}\n" if found else line


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
