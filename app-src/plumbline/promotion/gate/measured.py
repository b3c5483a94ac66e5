"""The paired tests of a candidate, made: other versions are fetched, checked, and asked for its holdout rows."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from plumbline.core import store
from plumbline.core.artifact import digest_of
from plumbline.core.errors import Accident, Inconclusive, Refused
from plumbline.core.evidence import Expected
from plumbline.core.holdout import identity
from plumbline.core.metrics.clusters import Difference
from plumbline.core.release import Release
from plumbline.promotion.gate.answers import PROPER, Answers, groups_of
from plumbline.promotion.gate.bundle import open_bundle
from plumbline.promotion.gate.comparison import Against, Comparisons, SliceDifference, Unknown
from plumbline.promotion.gate.evaluation import Evaluation, read_judged
from plumbline.promotion.gate.expected import expected_difference
from plumbline.promotion.gate.seen import FRESH, unseen
from plumbline.promotion.policy import Rules
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.version import Version


@dataclass(frozen=True)
class Measured:
    """The tests, and what a canary should show."""

    comparisons: Comparisons
    expected: Expected | None


@dataclass(frozen=True)
class Comparer:
    """A candidate's evaluation, beside which other models are put by the rules of an environment."""

    registry: Registry
    version: Version
    evaluation: Evaluation
    folder: Path
    rules: Rules

    def measure(self, served: Release | None, recent: Sequence[Release]) -> Measured:
        """Every paired test; one that can't be made says why."""
        rules, expected = self.rules, None
        tries = self.registry.tries(self.version, identity(self.evaluation.holdout.table))
        try:
            rows = self.evaluation.rows
        except (Refused, Inconclusive) as error:
            return Measured(Comparisons("", 0, error, tries, error, error, error if served else None), None)
        champion: Against | Unknown | None = None
        if served is not None:
            try:
                theirs = self._answers(served)
                expected = expected_difference(rows, self.evaluation.answers, served, theirs)
                champion = self._against(served, theirs, slices=True)
            except (Refused, Inconclusive) as error:
                champion = error
        proper = rules.beats_constant.metric or PROPER[rows.output.task]
        comparisons = Comparisons(
            by=rows.clusters.by,
            clusters=rows.clusters.count,
            fault=rows.clusters.fault,
            tries=tries,
            baseline=self._beside(rules.beats_baseline.metric, lambda: self.evaluation.baseline),
            constant=self._beside(proper, lambda: rows.constant(proper)),
            champion=champion,
            recent=tuple(map(self._recent, recent)),
        )
        return Measured(comparisons, expected)

    def _beside(self, metric: str, other: Callable[[], Answers]) -> Difference | Unknown:
        """The difference from answers to the same rows that no version gave."""
        rule = self.rules.champion
        try:
            return self.evaluation.rows.compared(
                metric, self.evaluation.answers, other(), resamples=rule.resamples, seed=rule.seed
            )[0]
        except (Refused, Inconclusive) as error:
            return error

    def _recent(self, release: Release) -> Against | tuple[str, Unknown]:
        """An earlier release; one that is gone, or answers another question, is no reason to refuse, and is said."""
        try:
            return self._against(release, self._answers(release), slices=False)
        except (Refused, Inconclusive) as error:
            return release.spec.version, error
        except Accident as error:
            return release.spec.version, Inconclusive(str(error))

    def _answers(self, release: Release) -> Answers:
        """What a release gives for the candidate's rows, from the bytes that git names."""
        artifact = release.spec.artifact
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        with store.open_bundle(artifact.uri) as released:
            store.download(released, folder)
        bundle = open_bundle(folder, release.model)
        if (actual := digest_of(bundle.folder)) != artifact.digest:
            raise Inconclusive(f"{release.spec.version} at {artifact.uri} hashes to {actual}, not {artifact.digest}")
        output, other = self.evaluation.bundle.schema.output, bundle.schema.output
        if (output.task, output.labels) != (other.task, other.labels):
            raise Inconclusive(
                f"{release.spec.version} answers another question (task or labels); give the model a new name"
            )
        return self.evaluation.answers_of(bundle, release.spec.threshold)

    def _against(self, release: Release, theirs: Answers, *, slices: bool) -> Against:
        """The paired test on the rows that neither learnt from, with that of each slice."""
        evaluation, rule, version = self.evaluation, self.rules.champion, release.spec.version
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        report, held = read_judged(self.registry, release.spec.lineage.run, release.model, folder)
        fresh = unseen(evaluation.report, evaluation.holdout, report, held)
        rows, ours = evaluation.rows.only(fresh), evaluation.answers.of(fresh)
        left_out = len(fresh) - len(rows)
        if left_out and rows.clusters.fault:
            raise Inconclusive(
                f"{version} learnt from {left_out:,} of the {len(fresh):,} rows, and the others are too few: "
                f"{rows.clusters.fault}; or {FRESH}"
            )
        test = self.rules.slices_against_champion
        columns = (test.columns or tuple(rows.slices)) if slices else ()
        groups, unjudged = groups_of(rows, columns, test.min_clusters)
        test_of = partial(rows.compared, resamples=rule.resamples, seed=rule.seed)
        whole = test_of(rule.metric, ours, theirs.of(fresh))[0]
        parts = test_of(self.rules.slice_test[0], ours, theirs.of(fresh), list(groups.values()))[1:] if groups else []
        judged = [
            SliceDifference(column, value, int(chosen.sum()), part)
            for ((column, value), chosen), part in zip(groups.items(), parts, strict=True)
        ]
        return Against(version, whole, len(rows), left_out, tuple(judged), tuple(unjudged))
