"""Random histories of a model in two environments: people, promotions, canaries, and a process that dies at any point.

Git and MLflow are real. The cluster is a stand-in that does what Argo CD and Argo Rollouts do: it takes what main says,
a pod template that is not stable's is a canary, a canary climbs step by step, a new template starts at the first step,
an aborted one stays aborted until the template changes, and stable's template is Healthy at once.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from plumbline.core import programs
from plumbline.core.documents import DocumentError
from plumbline.core.errors import PlumblineError
from plumbline.core.release import Release, parse_release
from plumbline.promotion.delivery.cluster import RELEASE_TEXT, Cluster, Failure, Running, Served
from plumbline.promotion.delivery.documents import barred_path, release_path
from plumbline.promotion.delivery.git import Change, checkout, commit_and_push
from plumbline.promotion.delivery.governance import bar
from plumbline.promotion.delivery.hold import hold, refuse_held, thaw
from plumbline.promotion.delivery.reconcile import Step, rounds, status
from plumbline.promotion.delivery.records import read_served
from plumbline.promotion.delivery.release_text import edit, move, new_text
from plumbline.promotion.delivery.state import digests_of, forbidden
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.settings import Settings

from .conftest import Remote, add_model, settings_of
from .releases import digest, known, made

ENVIRONMENTS = ("staging", "production")
STEPS = 3
_ARTIFACTS, _IMAGES = "abcdef", "1234"


class Killed(BaseException):
    """The process is gone, whatever it was doing."""


@dataclass(frozen=True)
class Template:
    """What of git makes a pod."""

    text: str
    configuration: str

    @property
    def release(self) -> Release:
        return parse_release(self.text)


@dataclass
class Rollout:
    """One environment's Rollout."""

    stable: Template | None = None
    wanted: Template | None = None
    step: int = 0
    failure: Failure | None = None


@dataclass(frozen=True)
class Truth:
    """What would be found by whoever served it."""

    worse: frozenset[str]
    """Digests whose canary fails its analysis."""
    broken: frozenset[str]
    """Digests whose pods never get ready."""

    def verdict(self, template: Template) -> Failure | None:
        has = {*digests_of(template.release)}
        if has & self.broken or "broken" in template.configuration:
            return Failure("", "ReplicaSet has timed out progressing")
        if has & self.worse or "worse" in template.configuration:
            return Failure("p95", "failed (1) > failureLimit (0); last value [0.9]")
        return None


class Rollouts(Cluster):
    """The cluster of one environment."""

    def __init__(self, remote: Remote, environment: str, model: str, truth: Truth, compares: bool) -> None:
        self._remote, self._environment, self._model, self._truth = remote, environment, model, truth
        self._compares = compares
        self.rollout = Rollout()

    def tick(self) -> None:
        """Argo CD syncs the newest main, then the canary climbs a step or is judged."""
        now, template = self.rollout, self._in_git()
        if template is None:  # and somebody confirms what Argo CD deletes then
            self.rollout = Rollout()
            return
        if template != now.wanted:
            self.rollout = now = Rollout(now.stable, template)
        if now.stable == template or now.failure is not None:
            return
        if now.stable is None:  # the first release comes up without an analysis, or not at all
            now.stable = None if digests_of(template.release)[0] in self._truth.broken else template
            return
        now.step += 1
        if now.step > 1 and (failure := self._truth.verdict(template)):
            now.failure = failure
        elif now.step > STEPS:
            now.stable = template

    def running(self, model: str) -> Running | None:
        now = self.rollout
        if model != self._model or now.wanted is None:
            return None
        stable, wanted = now.stable, now.wanted
        healthy = stable == wanted
        return Running(
            wanted=Served.of(wanted.release),
            stable=None if stable is None else Served.of(stable.release),
            phase="Healthy" if healthy else "Degraded" if now.failure else "Progressing",
            weight=0 if healthy else 10,
            message="",
            failure=now.failure,
            pods=self._compared(stable, wanted) if self._compares else None,
        )

    @staticmethod
    def _compared(stable: Template | None, wanted: Template) -> tuple[str, ...] | None:
        if stable is None:
            return None
        texts = (RELEASE_TEXT,) if stable.text != wanted.text else ()
        return (*texts, *(("/spec/cpu",) if stable.configuration != wanted.configuration else ()))

    def _in_git(self) -> Template | None:
        self._remote.pull()
        file = self._remote.work / release_path(self._environment, self._model)
        servers = self._remote.work / f"clusters/{self._environment}/model-server/kustomization.yaml"
        if not file.exists():
            return None
        template = Template(file.read_bytes().decode(errors="replace"), servers.read_text() if servers.exists() else "")
        try:
            parse_release(template.text)
        except DocumentError:
            return self.rollout.wanted  # Kustomize builds nothing of it, so Argo CD leaves what is there
        return template


@dataclass
class History:
    """One model, two environments, and what happens to them."""

    seed: int
    remote: Remote
    settings: Settings
    registry: Registry
    model: str
    chance: random.Random = field(init=False)
    did: list[str] = field(default_factory=list)
    rejected: set[str] = field(default_factory=set)
    _going: dict[str, Iterator[Iterator[Step]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        guilty = self.chance.sample(_ARTIFACTS[1:], 2), self.chance.sample(_IMAGES[1:], 1)
        broken = self.chance.sample([*guilty[0], *guilty[1]], 1)
        bad = {*guilty[0], *guilty[1]} - {*broken}
        self.truth = Truth(frozenset(map(digest, bad)), frozenset(map(digest, broken)))
        compares = self.chance.random() < 0.7
        self.clusters = {name: Rollouts(self.remote, name, self.model, self.truth, compares) for name in ENVIRONMENTS}
        self._requests: list[str] = []
        self._versions = self._register()

    def run(self, events: int) -> None:
        """Let things happen, with some minutes between them."""
        self._promote("staging", _ARTIFACTS[0], _IMAGES[0])
        self._minutes(2)
        happens = [
            *[self._promotion] * 4,
            self._further,
            self._configuration,
            self._reject,
            self._by_hand,
            self._request,
            self._merge,
            self._revert,
            self._revert,
            self._pick,
            self._hold,
            self._thaw,
            self._force,
        ]
        for _ in range(events):
            with suppress(PlumblineError):  # a refusal is an answer
                if self.chance.random() < 0.15:
                    with self._killed():
                        self.chance.choice(happens)()
                else:
                    self.chance.choice(happens)()
            self._minutes(self.chance.choice([0, 1, 2, 5]))

    def settle(self) -> None:
        """People mend the configuration and unreadable files and hold nothing; then the loop has the time it needs.

        Where all that an environment ever served is barred, a person promotes another version, as they are told to.
        """
        for name in ENVIRONMENTS:
            for held in (self.model, None):
                thaw(self.settings, name, held, "ada", "it is over")
            self._configure(name, "# cpu: 500m\n")
            self._mend(name)
        self._minutes(12, kill=False)
        for name, cluster in self.clusters.items():
            (row,) = status(self.registry, self.settings, cluster, name, [self.model])
            stable = cluster.rollout.stable
            stands = stable is not None and {*digests_of(stable.release)} & self._barred()
            if row.verdict == "barred" or (stands and row.verdict != "agree"):
                left = [one for one in _ARTIFACTS if digest(one) not in self._guilty() | self.rejected]
                images = [one for one in _IMAGES if digest(one) not in self._guilty()]
                self._promote(name, left[0], images[0])
        self._minutes(8, kill=False)

    def disagreements(self) -> list[str]:
        """What is wrong at the end; empty where git, cluster and registry agree and nothing innocent is barred."""
        found = []
        self.remote.pull()
        innocent = {digest(letter) for letter in _ARTIFACTS + _IMAGES} - self._guilty()
        for one in innocent - self.rejected:
            if (self.remote.work / barred_path(self.model, one)).exists():
                found.append(f"innocent and barred: {one}")
        for name, cluster in self.clusters.items():
            (row,) = status(self.registry, self.settings, cluster, name, [self.model])
            with checkout(self.settings) as tree:
                release = read_served(tree, name, self.model)
                illegal = [] if release is None else list(forbidden(tree, name, release))
            if illegal:
                found.append(f"{name} serves what is forbidden: {illegal}")
            if row.verdict != "agree":
                found.append(f"{name}: {row}")
            if (
                release is not None
                and self.truth.verdict(Template(new_text(release), ""))
                and len(self._past(name)) > 1
            ):
                found.append(f"{name} ended with what is bad: {row}")
        return found

    # What happens ------------------------------------------------------------------------------------------------

    def _promotion(self) -> None:
        served = self._served("staging")
        artifact, image = self.chance.choice(_ARTIFACTS), self.chance.choice(_IMAGES)
        if served is not None and self.chance.random() < 0.7:  # mostly one thing at a time
            letters = [served.spec.artifact.digest[-1], served.spec.image[-1]]
            artifact, image = (artifact, letters[1]) if self.chance.random() < 0.6 else (letters[0], image)
        self._promote("staging", artifact, image)

    def _further(self) -> None:
        """To production goes what staging has proved."""
        running = self.clusters["staging"].running(self.model)
        if running is not None and running.phase == "Healthy":
            self._promote("production", running.wanted.digest[-1], running.wanted.image[-1])

    def _promote(self, environment: str, artifact: str, image: str) -> None:
        """As `plumbline promote run` commits, and refuses what is barred."""
        release = self._release(artifact, image)
        path = release_path(environment, self.model)

        def change() -> Change | None:
            if reasons := list(forbidden(tree, environment, release)):
                raise PlumblineError("; ".join(reasons))
            refuse_held(tree, environment, self.model)
            served, text = read_served(tree, environment, self.model), tree.read(path)
            if served is not None and served.spec == release.spec:
                return None
            new = new_text(release) if text is None else edit(text, release, source=path)
            return Change({path: new}, f"{self.model}({environment}): {move(served, release)}")

        self._note(f"promote {environment} {artifact}{image}")
        with checkout(self.settings) as tree:
            commit_and_push(tree, self.settings.attempts, change)

    def _configuration(self) -> None:
        values = ["# cpu: 250m\n", "# cpu: 1\n", "# worse\n", "# broken\n"]
        self._configure(self.chance.choice(ENVIRONMENTS), self.chance.choice(values))

    def _configure(self, environment: str, text: str) -> None:
        self.remote.pull()
        path = f"clusters/{environment}/model-server/kustomization.yaml"
        if (self.remote.work / path).exists() and (self.remote.work / path).read_text() == text:
            return
        self._note(f"configure {environment} {text.strip()}")
        self.remote.commit({path: text}, f"{environment}: {text.strip()}")

    def _reject(self) -> None:
        environment = self.chance.choice(ENVIRONMENTS)
        if (served := self._served(environment)) is not None and len(self.rejected) < 2:
            guilty = served.spec.artifact.digest
            self._note(f"reject {guilty[-1]}")
            self.rejected.add(guilty)
            bar(self.settings, self.model, served.spec.version, lambda _: guilty, "accuracy", "labels came")

    def _by_hand(self) -> None:
        environment = self.chance.choice(ENVIRONMENTS)
        served = self._served(environment)
        if served is None:
            return
        path = release_path(environment, self.model)
        text = (self.remote.work / path).read_text()
        kinds = {
            "comment": text + "# noted\n",
            "threshold": text.replace("threshold: 0.5", "threshold: 0.4"),
            "another": new_text(self._release(self.chance.choice(_ARTIFACTS), self.chance.choice(_IMAGES))),
            "flow": text.replace("  metadata:", "  metadata: "),
            "broken": "kind: Release\n",
        }
        kind = self.chance.choice(sorted(kinds))
        if kinds[kind] != text:
            self._note(f"by hand {environment} {kind}")
            self.remote.commit({path: kinds[kind]}, f"by hand: {kind}")
            if kind == "broken":
                self._minutes(1)
                self._mend(environment)

    def _mend(self, environment: str) -> None:
        """Whoever broke the file takes that back."""
        self.remote.pull()
        path = self.remote.work / release_path(environment, self.model)
        if path.exists() and path.read_text() == "kind: Release\n":
            good = self.clusters[environment].rollout.wanted
            assert good is not None
            self._note(f"mend {environment}")
            self.remote.commit({release_path(environment, self.model): good.text}, "mended")

    def _request(self) -> None:
        """A pull request that waits, of something that was right when it was opened."""
        environment = self.chance.choice(ENVIRONMENTS)
        if self._served(environment) is None:
            return
        branch = f"request-{self.chance.getrandbits(40):x}"
        release = self._release(self.chance.choice(_ARTIFACTS), self.chance.choice(_IMAGES))
        self.remote.git("checkout", "--quiet", "-b", branch)
        (self.remote.work / release_path(environment, self.model)).write_text(new_text(release))
        if self.remote.git("status", "--porcelain", "--untracked-files=no"):
            self.remote.git("commit", "--quiet", "-am", f"serve {release.spec.version} in {environment}")
            self._requests.append(branch)
            self._note(f"request {environment} {release.spec.artifact.digest[-1]}{release.spec.image[-1]}")
        self.remote.git("checkout", "--quiet", "main")

    def _merge(self) -> None:
        if not self._requests:
            return
        how = self.chance.choice(["plain", "plain", "squash", "ours", "octopus"])
        branches = [self._requests.pop(0)]
        self.remote.pull()
        if how == "octopus":  # with a line that has nothing to do with it
            branches.append(f"line-{self.chance.getrandbits(40):x}")
            self.remote.git("checkout", "--quiet", "-b", branches[1])
            self.remote.git("commit", "--quiet", "--allow-empty", "-m", "of another line")
            self.remote.git("checkout", "--quiet", "main")
        try:
            options = {"squash": ("--squash",), "ours": ("--no-ff", "--strategy=ours")}.get(how, ("--no-ff",))
            self.remote.git("merge", "--quiet", *options, "-m", "merge", *branches)
        except Exception:
            self.remote.git("reset", "--quiet", "--hard")
            return
        if how == "squash":
            self.remote.git("commit", "--quiet", "--allow-empty", "-m", f"{branches[0]} (#7)")
        self._note(f"merge {how} {branches[0]}")
        self.remote.git("push", "--quiet", "origin", "main")

    def _revert(self) -> None:
        """A person undoes the last commit of a release, or of the records of what is barred."""
        environment = self.chance.choice(ENVIRONMENTS)
        self.remote.pull()
        path = self.chance.choice([release_path(environment, self.model), "policies/barred"])
        commits = self.remote.git("log", "--no-merges", "--format=%H", "--", path).split()
        if len(commits) < (2 if path.startswith("clusters/") else 1):
            return
        try:
            self.remote.git("revert", "--no-edit", commits[0])
        except Exception:
            self.remote.git("revert", "--abort")
            return
        self._note(f"revert of {path}")
        self.remote.git("push", "--quiet", "origin", "main")

    def _pick(self) -> None:
        """A person takes an older commit of a release once more."""
        self.remote.pull()
        path = release_path(self.chance.choice(ENVIRONMENTS), self.model)
        commits = self.remote.git("log", "--no-merges", "--format=%H", "--", path).split()
        if not commits:
            return
        commit = self.chance.choice(commits)
        try:
            self.remote.git("cherry-pick", commit)
        except Exception:
            self.remote.git("reset", "--quiet", "--hard")
            return
        self._note(f"cherry-pick {commit[:12]} of {path}")
        self.remote.git("push", "--quiet", "origin", "main")

    def _hold(self) -> None:
        environment, model = self.chance.choice(ENVIRONMENTS), self.chance.choice([self.model, None])
        self._note(f"hold {environment} {model or 'all'}")
        hold(self.settings, environment, model, "ada", "a fair", timedelta(days=3))

    def _thaw(self) -> None:
        for environment in ENVIRONMENTS:
            for model in (self.model, None):
                if thaw(self.settings, environment, model, "ada", "it is over") is not None:
                    self._note(f"thaw {environment} {model or 'all'}")

    def _force(self) -> None:
        """Somebody takes the last commits of main away, as if they had never been."""
        self.remote.pull()
        last = self.remote.git("rev-list", "--first-parent", "HEAD").split()
        gone = self.chance.randint(1, 3)
        if len(last) < gone + 3:  # the model's folder and its first release stay
            return
        self._note(f"force-push without the last {gone}")
        self.remote.git("reset", "--quiet", "--hard", last[gone])
        self.remote.git("push", "--quiet", "--force", "origin", "main")

    # Underneath ----------------------------------------------------------------------------------------------------

    def _minutes(self, count: int, *, kill: bool = True) -> None:
        for _ in range(count):
            for name, cluster in self.clusters.items():
                cluster.tick()
                with suppress(PlumblineError):  # one that nothing can be done about is tried again in a minute
                    if kill and self.chance.random() < 0.1:
                        with self._killed():
                            self._reconcile(name)
                    else:
                        self._reconcile(name)

    def _reconcile(self, environment: str) -> None:
        """A process of a minute; of every other history one that goes on until it dies."""
        each = self._going.pop(environment, None)
        if each is None:
            each = rounds(self.registry, self.settings, self.clusters[environment], environment, [self.model])
        for step in next(each):
            if " commit " in step.did:
                self._note(f"  reconcile {environment}: {step.did[:150]}")
        if self.seed % 2:
            self._going[environment] = each

    @contextmanager
    def _killed(self) -> Iterator[None]:
        """The process dies before or after some call of git."""
        left, after, real = self.chance.randint(1, 12), self.chance.random() < 0.5, programs.git

        def mortal(*arguments: str, **more: object) -> programs.Done:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                raise Killed
            done = real(*arguments, **more)  # type: ignore[arg-type]
            if left == 0:
                raise Killed
            return done

        programs.git = mortal
        try:
            yield
        except Killed:
            self._note("  killed")
        finally:
            programs.git = real

    def _served(self, environment: str) -> Release | None:
        self.remote.pull()
        path = self.remote.work / release_path(environment, self.model)
        try:
            return parse_release(path.read_text()) if path.exists() else None
        except DocumentError:
            return None

    def _past(self, environment: str) -> list[str]:
        return self.remote.git("log", "--format=%H", "--", release_path(environment, self.model)).split()

    def _barred(self) -> set[str]:
        self.remote.pull()
        names = {path.stem for path in self.remote.work.glob(f"policies/barred/{self.model}/*.yaml")}
        return {digest(name[0]) for name in names}

    def _guilty(self) -> frozenset[str]:
        return self.truth.worse | self.truth.broken

    def _note(self, text: str) -> None:
        self.did.append(text)

    def _release(self, artifact: str, image: str) -> Release:
        spec = made(self.model, "v1.0.0", artifact, image).spec
        release = self._versions[artifact]
        return release.model_copy(update={"spec": release.spec.model_copy(update={"image": spec.image})})

    def _register(self) -> dict[str, Release]:
        """{artifact: its release}, of which the registry has versions, judged for each environment."""
        return {
            artifact: known(self.registry, made(self.model, f"v1.0.{index}", artifact), ENVIRONMENTS)
            for index, artifact in enumerate(_ARTIFACTS)
        }


def begin(seed: int, folder: Path, registry: Registry, keys: tuple[Path, Path]) -> History:
    """A history of a model of its own."""
    model = f"history-{seed}"
    remote = Remote(folder)
    add_model(remote, model)
    return History(seed, remote, settings_of(remote, keys, follows="cluster"), registry, model)
