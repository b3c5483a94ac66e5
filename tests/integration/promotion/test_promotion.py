"""From the gate to git and back: bump, no-op, approval, pull request, rollback, rejection."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from plumbline.core.documents import DocumentError, parse
from plumbline.core.errors import Accident, Inconclusive, Misuse, Refused
from plumbline.core.evidence import parse_evidence
from plumbline.promotion.delivery.documents import BY_MERGE, Barred, Override, barred_path, dump
from plumbline.promotion.delivery.follow import move_by_hand, sync
from plumbline.promotion.delivery.git import checkout
from plumbline.promotion.delivery.governance import reject
from plumbline.promotion.delivery.promote import Outcome, card_of, promote, pull_request
from plumbline.promotion.gate.audit import audit
from plumbline.promotion.gate.gate import Request, candidate, examine
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.lifecycle import Lifecycle
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings
from plumbline.training.report import Interval, Report

from .conftest import IMAGE, Remote

Make = Callable[..., Version]
Bump = Callable[..., Outcome]
OTHER_IMAGE = IMAGE.replace("a" * 64, "b" * 64)


def follow(registry: Registry, settings: Settings, model: str) -> list[str]:
    with checkout(settings) as tree:
        return sync(registry, tree, model)


def states(registry: Registry, model: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {str(item.semver): (item.lifecycle.value, tuple(sorted(item.aliases))) for item in registry.versions(model)}


def test_from_nothing_to_staging_and_on(
    registered: Make, bump: Bump, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    registered()
    first = bump("v1.0.0")
    assert first.judgement is not None
    assert remote.log()[0] == f"{model}(staging): nothing → v1.0.0"
    release = remote.release("staging", model)
    assert release.spec.evidence.gate == first.judgement.sha256()
    assert release.spec.artifact.digest == registry.find(model, "v1.0.0").digest
    assert release.spec.threshold == 0.5
    # Somebody comments the file; the bump changes values and nothing else.
    path = f"clusters/staging/models/{model}/release.yaml"
    text = (remote.work / path).read_text()
    remote.commit({path: text.replace("threshold: 0.5", "threshold: 0.5  # agreed with ops")})
    registered(seed=1, tags={"data.digest": "sha256:" + "e" * 64})
    second = bump("v1.0.1")
    lines = [line for line in second.diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    keys = ("version", "uri", "digest", "registryVersion", "run", "data", "gate")
    assert [line[1:].strip().split(":")[0] for line in lines if line[0] == "+"] == list(keys)
    remote.pull()
    assert "# agreed with ops" in (remote.work / path).read_text()
    # The same once more is a no-op; another image of the same model is a bump of one thing.
    count = len(remote.log())
    again = bump("v1.0.1")
    assert (again.judgement, again.commit, len(remote.log())) == (None, "", count)
    assert "-  image: " in bump("v1.0.1", image=OTHER_IMAGE).diff
    # The registry follows git, once.
    assert follow(registry, settings, model) == ["alias staging → v1.0.1", "v1.0.1 is Staging"]
    assert follow(registry, settings, model) == []
    assert states(registry, model) == {"v1.0.0": ("None", ()), "v1.0.1": ("Staging", ("staging",))}


def test_the_report_that_git_names_is_kept(registered: Make, bump: Bump, registry: Registry, tmp_path: Path) -> None:
    version = registered()
    judgement = bump("v1.0.0").judgement
    assert judgement is not None
    (stored,) = registry.download(version.run, "gate", tmp_path).iterdir()
    assert stored.read_text() == judgement.to_json()
    assert stored.name == f"staging-v1.0.0-{judgement.sha256()[7:19]}.json"


def test_the_evidence_stands_beside_the_release(
    registered: Make, bump: Bump, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    path = f"clusters/staging/models/{model}/evidence.yaml"
    registered()
    bump("v1.0.0")
    remote.pull()
    first = parse_evidence((remote.work / path).read_text())
    assert first.spec.artifact == remote.release("staging", model).spec.artifact.digest
    assert first.spec.expected is None, "nothing was served before"
    assert (first.spec.holdout.by, first.spec.holdout.clusters) == ("", first.spec.holdout.rows)
    registered(seed=1, noise=0.04)
    judgement = bump("v1.0.1").judgement
    remote.pull()
    second = parse_evidence((remote.work / path).read_text())
    assert judgement is not None
    assert judgement.evidence == (remote.work / path).read_text()
    assert second.spec.holdout == first.spec.holdout, "the same rows"
    expected = second.spec.expected
    assert expected is not None
    assert (expected.version, expected.artifact) == ("v1.0.0", first.spec.artifact)
    assert [(part.column, part.value) for part in expected.shifts] == [
        ("", ""),
        ("carrier", "B6"),
        ("carrier", "DL"),
        ("carrier", "UA"),
    ]
    assert 0.9 < (expected.shifts[0].agreement or 0) < 1
    assert "carrier = UA" in judgement.slices
    said = {verdict.rule: verdict.value for verdict in judgement.verdicts}
    assert said["tries on this holdout"].startswith("2 runs")
    assert audit(registry, settings, remote.work)[0] == []
    remote.commit({path: (remote.work / path).read_text().replace("rows: ", "rows: 1", 1)})
    assert audit(registry, settings, remote.work)[0] == [
        f"clusters/staging/models/{model}/release.yaml: {path} is not what the gate wrote"
    ]


def test_three_small_losses_are_one_large_one(registered: Make, bump: Bump, remote: Remote, model: str) -> None:
    """The margin lets each pass against the one before; against the best of the last three it does not."""
    for noise in (0.0, 0.1, 0.15, 0.2):
        registered(seed=int(noise * 100), noise=noise)
    versions = ("v1.0.0", "v1.0.1", "v1.0.2", "v1.0.3")
    remote.commit({f"policies/promotion/{model}.yaml": policy(remote, model, margin=0.016, recent=0)})
    for version in versions[:3]:
        bump(version)
    losses = bump(versions[3], how="dry run").judgement
    assert losses is not None
    assert losses.outcome == "pass"
    remote.commit({f"policies/promotion/{model}.yaml": policy(remote, model, margin=0.016, recent=3)})
    with pytest.raises(Refused, match=r"not worse than the best of 3 before \(log_loss\): worse than v1.0.0"):
        bump(versions[3])


def policy(remote: Remote, model: str, **champion: Any) -> str:
    document = yaml.safe_load((remote.work / f"policies/promotion/{model}.yaml").read_text())
    document["spec"]["rules"]["champion"] |= champion
    return yaml.safe_dump(document)


def test_a_weak_candidate_is_refused_and_nothing_is_committed(
    registered: Make, bump: Bump, remote: Remote, model: str
) -> None:
    registered()
    bump("v1.0.0")
    before = remote.log()
    registered(noise=0.4, seed=3, params={"depth": "1"})
    with pytest.raises(Refused, match="not worse than champion") as refusal:
        bump("v1.1.0")
    assert "the gate of staging says refused" in str(refusal.value)
    dry = bump("v1.1.0", how="dry run")
    assert dry.judgement is not None
    assert (dry.judgement.outcome, dry.commit) == ("refused", "")
    assert "+  version: v1.1.0" in dry.diff
    assert remote.log() == before


def test_production_asks_for_staging_and_approval(
    registered: Make,
    bump: Bump,
    approve: Callable[..., str],
    registry: Registry,
    settings: Settings,
    remote: Remote,
    model: str,
) -> None:
    registered()
    with pytest.raises(Refused, match=r"life cycle.*served in staging first.*approval"):
        bump("v1.0.0", "production")
    bump("v1.0.0")
    follow(registry, settings, model)
    with pytest.raises(Refused, match="approval: nobody approved it"):
        bump("v1.0.0", "production")
    approve("v1.0.0")
    bump("v1.0.0", "production")
    assert remote.release("production", model).spec.evidence.approvedBy == "Ada"
    follow(registry, settings, model)
    assert states(registry, model) == {"v1.0.0": ("Production", ("production", "staging"))}
    # An approval is of one image: it does not carry over to others.
    with pytest.raises(Refused, match="approval: nobody approved it"):
        bump("v1.0.0", "production", image=OTHER_IMAGE)


def test_production_by_pull_request(
    registered: Make, bump: Bump, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    registered()
    bump("v1.0.0")
    follow(registry, settings, model)
    before = remote.log()
    outcome = bump("v1.0.0", "production", "pull request")
    assert outcome.branch == f"promote/production/{model}/v1.0.0"
    assert remote.log() == before, "main waits for the merge"
    request = Request(model, "v1.0.0", "production", IMAGE, pull_request=True)
    text = pull_request(request, outcome, card_of(registry, model, "v1.0.0"))
    for said in ("+  version: v1.0.0", "| approval ", "whoever reviews", f"### {model} v1.0.0", "roc_auc"):
        assert said in text
    with pytest.raises(Refused, match="exists: merge or delete it first"):
        bump("v1.0.0", "production", "pull request", image=OTHER_IMAGE)
    remote.git("merge", "--quiet", "--ff-only", f"origin/{outcome.branch}")
    remote.git("push", "--quiet", "origin", "main")
    spec = remote.release("production", model).spec
    assert (spec.version, spec.evidence.approvedBy) == ("v1.0.0", BY_MERGE)


def test_a_rollback_by_hand_stays(
    registered: Make, bump: Bump, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    registered()
    bump("v1.0.0")
    registered(tags={"data.digest": "sha256:" + "e" * 64}, seed=1)
    bump("v1.0.1")
    follow(registry, settings, model)
    remote.pull()
    remote.git("revert", "--no-edit", "HEAD")
    remote.git("push", "--quiet", "origin", "main")
    assert follow(registry, settings, model) == [
        "alias staging → v1.0.0",
        "v1.0.0 is Staging",
        "v1.0.1 is Archived",
    ]
    with pytest.raises(Refused, match="moves forward: served before, until"):
        bump("v1.0.1")
    assert remote.release("staging", model).spec.version == "v1.0.0"
    assert bump("v1.0.1", again="the outage was the network's").commit
    remote.pull()
    assert "Again: the outage was the network's" in remote.git("log", "-1", "--format=%B")
    with pytest.raises(Refused, match="moves forward"):
        bump("v1.0.0")
    with pytest.raises(Refused, match=r"staging serves .* change what git says"), checkout(settings) as tree:
        move_by_hand(registry, tree, model, "v1.0.1", Lifecycle.ARCHIVED)
    follow(registry, settings, model)
    with checkout(settings) as tree, pytest.raises(Refused, match="Archived → Production is not a legal move"):
        move_by_hand(registry, tree, model, "v1.0.0", Lifecycle.PRODUCTION)


def test_a_rejected_version_is_taken_back_and_stays_out(
    registered: Make, bump: Bump, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    registered()
    bump("v1.0.0")
    registered(tags={"data.digest": "sha256:" + "e" * 64}, seed=1)
    bump("v1.0.1")
    path = f"clusters/staging/models/{model}/release.yaml"
    remote.pull()
    remote.commit({path: (remote.work / path).read_text().replace("version:", "version:  ") + "# kept\n"})
    done = reject(registry, settings, model, "v1.0.1", "error-rate", "20 % of answers were 5xx")
    assert (done.reverted, done.stranded) == ({"staging": "v1.0.1 → v1.0.0"}, ())
    assert remote.log()[0] == f"{model}(staging): v1.0.1 → v1.0.0, rejected by error-rate"
    assert remote.release("staging", model).spec.version == "v1.0.0"
    assert (remote.work / path).read_text().endswith("# kept\n")
    changed = remote.git("show", "--format=", "--name-only", "HEAD").split()
    assert sorted(changed) == [path, barred_path(model, done.digest)], "one commit bars and reverts"
    assert reject(registry, settings, model, "v1.0.1", "error-rate", "again").delivered is None
    assert "v1.0.1 rejected: error-rate: 20 % of answers were 5xx" in follow(registry, settings, model)
    assert states(registry, model)["v1.0.1"] == ("Archived", ())
    with pytest.raises(Refused, match="not barred: failed error-rate"):
        bump("v1.0.1", again="please")
    # A written override, by hand, opens it again.
    record = parse((remote.work / barred_path(model, done.digest)).read_text(), Barred, "barred")
    override = Override(by="Ada", reason="the gateway was at fault", at=record.at)
    remote.commit({barred_path(model, done.digest): dump(record.model_copy(update={"override": override}))})
    assert bump("v1.0.1", again="see the override").commit
    assert "v1.0.1 no longer rejected" in follow(registry, settings, model)
    assert states(registry, model)["v1.0.1"] == ("Staging", ("staging",))


def test_a_rejection_needs_no_registry_and_skips_what_is_barred(
    registered: Make, bump: Bump, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    registered()
    bump("v1.0.0")
    for seed, letter in ((1, "e"), (2, "f")):
        registered(tags={"data.digest": "sha256:" + letter * 64}, seed=seed)
        bump(f"v1.0.{seed}")
    down = Registry("http://127.0.0.1:9")
    barred = Barred.model_validate(
        {
            "model": model,
            "version": "v1.0.1",
            "digest": registry.find(model, "v1.0.1").digest,
            "metric": "drift",
            "reason": "seen late",
            "at": "2026-01-02T03:04:05Z",
        }
    )
    remote.commit({barred_path(model, barred.digest): dump(barred)})
    done = reject(down, settings, model, "v1.0.2", "latency", "p95 of 900 ms")
    assert done.reverted == {"staging": "v1.0.2 → v1.0.0"}
    done = reject(down, settings, model, "v1.0.0", "latency", "p95 of 900 ms")
    assert (done.reverted, done.stranded) == ({}, ("staging",)), "nothing is left to go back to"
    with pytest.raises(Misuse, match="metric: "):
        reject(registry, settings, model, "v1.0.1", "a\nb", "reason")


def test_the_champion_is_read_from_git_and_must_be_what_git_names(
    registered: Make, bump: Bump, remote: Remote, registry: Registry, model: str
) -> None:
    registered()
    bump("v1.0.0")
    registered(tags={"data.digest": "sha256:" + "e" * 64}, seed=1)
    path = f"clusters/staging/models/{model}/release.yaml"
    remote.pull()
    text = (remote.work / path).read_text()
    remote.commit({path: text.replace(registry.find(model, "v1.0.0").digest, "sha256:" + "0" * 64)})
    with pytest.raises(Inconclusive, match=r"not worse than champion .*: not compared"):
        bump("v1.0.1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rules: rules["champion"].update(metric="rmse"), "champion.metric: unknown metric 'rmse' of a binary"),
        (
            lambda rules: rules["slices"][0].update(column="month"),
            "slices.0.column: .*'month'; expected one of carrier",
        ),
        (lambda rules: rules["metrics"][0].update(metric="luck"), "metrics.0.metric: .*expected one of roc_auc, "),
        (
            lambda rules: rules["metrics"][0].update(metric="recall_at_precision_0.9"),
            "metrics.0.metric: 'recall_at_precision_0.9' is in no report of the model",
        ),
    ],
)
def test_a_name_that_the_model_does_not_have_is_refused_with_those_that_it_has(
    registered: Make, bump: Bump, remote: Remote, model: str, change: Callable[[Any], None], said: str
) -> None:
    registered()
    before = with_rules(remote, model, change)
    with pytest.raises(DocumentError, match=rf"^policies/promotion/{model}.yaml: spec.rules.{said}"):
        bump("v1.0.0")
    assert remote.log() == before


def with_rules(remote: Remote, model: str, change: Callable[[Any], None]) -> list[str]:
    """Change the gate's rules by hand; returns the log from then on."""
    path = f"policies/promotion/{model}.yaml"
    remote.pull()
    policy = yaml.safe_load((remote.work / path).read_text())
    change(policy["spec"]["rules"])
    remote.commit({path: yaml.safe_dump(policy)})
    return remote.log()


def test_what_the_report_leaves_out_is_judged_all_the_same(
    registered: Make, bump: Bump, remote: Remote, model: str
) -> None:
    """A report of before has not every metric that there is; the gate has its own figures."""

    def without_f1(report: Report) -> Report:
        return report.model_copy(update={"metrics": {k: v for k, v in report.metrics.items() if k != "macro_f1"}})

    registered(report=without_f1)
    before = with_rules(remote, model, lambda rules: rules["metrics"][0].update(metric="macro_f1", min=0.999))
    with pytest.raises(Refused, match=r"macro_f1 \(low\): 0\.\d+ \(≥ 0.999\)"):
        bump("v1.0.0")
    assert remote.log() == before


@pytest.mark.parametrize("end", ["value", "low", "high"])
def test_a_report_that_lies_is_found_out_and_decides_nothing(
    registered: Make, bump: Bump, remote: Remote, model: str, end: str
) -> None:
    """A model that is no better than chance, whose run says `low: 0.99`, signs it and registers it."""

    def lie(report: Report) -> Report:
        auc = report.metrics["roc_auc"].model_copy(update={end: 0.99})
        return report.model_copy(update={"metrics": report.metrics | {"roc_auc": auc}})

    registered(report=lie, noise=50)
    before = with_rules(
        remote, model, lambda rules: rules.update(metrics=[{"metric": "roc_auc", "bound": "low", "min": 0.59}])
    )
    with pytest.raises(Refused, match=r"roc_auc \(low\): 0\.[0-5]") as refusal:
        bump("v1.0.0")
    assert "recomputed" in str(refusal.value)
    assert remote.log() == before


def test_costs_and_limits_that_the_report_declares_are_recomputed_and_compared(
    registered: Make, bump: Bump, registry: Registry, remote: Remote, model: str, tmp_path: Path
) -> None:
    """The gate measures `cost` and `recall_at_precision_0.7` of the very bytes, and of the champion's."""
    declared = {"costs": {"late": {"on_time": 5.0}, "on_time": {"late": 1.0}}}

    def change(rules: Any) -> None:
        rules["champion"] = {"metric": "cost", "margin": 0.05, "resamples": 200}
        rules["metrics"].append({"metric": "recall_at_precision_0.7", "bound": "value", "min": 0.1})

    def report(recall: float, low: float = 0.0, high: float = 1.0) -> Callable[[Report], Report]:
        more = {"recall_at_precision_0.7": Interval(value=recall, low=low, high=high)}
        return lambda plain: plain.model_copy(update={**declared, "metrics": plain.metrics | more})

    with_rules(remote, model, change)
    registered(report=report(0.9))
    with pytest.raises(Refused, match=r"recall_at_precision_0.7 recomputed: 0\.[0-8]\d* \(= 0.9\)") as refusal:
        bump("v1.0.0")
    measured = float(str(refusal.value).split("recomputed: ")[1].split()[0])
    # The same bytes with another threshold are another version.
    registered(report=lambda plain: report(measured)(plain).model_copy(update={"threshold": 0.5 + 2**-20}))
    with pytest.raises(Refused, match=r"interval recomputed: .* to .*about 0 to 1") as refusal:
        bump("v1.0.1")
    ends = [float(word) for word in str(refusal.value).split("interval recomputed: ")[1].split()[:3:2]]
    registered(report=lambda plain: report(measured, *ends)(plain).model_copy(update={"threshold": 0.5 + 2**-19}))
    bump("v1.0.2")
    registered(report=report(measured, *ends), noise=0.8, seed=3, params={"depth": "3"})
    with pytest.raises(Refused, match=r"not worse than champion \(cost\): 1\.\d+ against 0\.\d+, worse by at most"):
        bump("v1.1.0")


def test_a_version_is_judged_against_the_champion_of_the_moment(
    registered: Make, bump: Bump, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    """Between judgement and push somebody promotes a better model: the weaker one is judged again, and refused."""
    registered(noise=0.4, seed=3)
    bump("v1.0.0")
    registered(noise=0.35, seed=3, params={"depth": "1"})
    registered(params={"depth": "2"})

    class Slow(Registry):
        """Lets somebody else push between the gate and the push, once."""

        raced = False

        def upload(self, run_id: str, path: Path, folder: str) -> None:
            super().upload(run_id, path, folder)
            if not self.raced:
                self.raced = True
                bump("v1.2.0")

    slow = Slow(registry._address)
    with pytest.raises(Refused, match=r"not worse than champion|moves forward"):
        promote(slow, settings, Request(model, "v1.1.0", "staging", IMAGE), "commit")
    assert slow.raced
    assert remote.release("staging", model).spec.version == "v1.2.0"
    assert len([title for title in remote.log() if "→" in title]) == 2


def test_a_race_that_is_lost_for_good_is_said(
    registered: Make, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    registered()

    class Beaten(Registry):
        """Somebody else always pushes first."""

        def upload(self, run_id: str, path: Path, folder: str) -> None:
            remote.commit({"notes.md": f"{len(remote.log())}\n"})
            super().upload(run_id, path, folder)

    once = settings.model_copy(update={"attempts": 1})
    with pytest.raises(Accident, match=r"(?s)main took no push in 1 tries.*\(fetch first\)"):
        promote(Beaten(registry._address), once, Request(model, "v1.0.0", "staging", IMAGE), "commit")
    assert remote.log()[0] == "by hand"


def test_check_reads_only(registered: Make, registry: Registry, settings: Settings, remote: Remote, model: str) -> None:
    registered()
    with checkout(settings) as tree, candidate(registry, settings, model, "v1.0.0") as subject:
        judgement = examine(tree, Request(model, "v1.0.0", "staging"), subject)
    assert judgement.outcome == "pass"
    assert "| image" not in judgement.table()
    assert registry.names(subject.version.run, "gate") == {}
