"""`policies/promotion/<model>.yaml`: the gate of a model, as frozen types that can't hold an illegal value."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from plumbline.core.documents import Fault, Strict, message
from plumbline.core.metrics.clusters import LEAST
from plumbline.core.names import Name
from plumbline.core.subject import Subject
from plumbline.promotion.registry.lifecycle import Lifecycle

Bound = Literal["value", "low", "high"]
Confidence = Annotated[float, Field(gt=0.5, lt=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Limit(Strict):
    """A floor or a ceiling for a metric on the holdout rows, for its value or an end of its 95 % interval."""

    metric: str
    bound: Bound = "value"
    min: Finite | None = None
    max: Finite | None = None

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.min is None) == (self.max is None):
            raise ValueError("give either min or max")
        return self

    def holds(self, value: float) -> bool:
        """Whether a finite value is within."""
        return value >= self.min if self.min is not None else value <= (self.max or 0.0)

    @property
    def text(self) -> str:
        """The limit for people."""
        return f"≥ {self.min:g}" if self.min is not None else f"≤ {self.max:g}"


class SliceLimit(Limit):
    """A limit for every slice of a column with enough rows to be judged."""

    column: str
    min_rows: PositiveInt


class ViewLimit(Limit):
    """A limit for the metric that is left where the online store has no values of a view: for no row."""

    view: str


class Baseline(Strict):
    """Better than the baseline of the same run, on the same rows: the bound of the difference is above 0."""

    metric: str
    by: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """In the metric's unit, and besides: how much better it must be found to be."""
    confidence: Confidence | None = None
    """The champion's where none is given."""


class Constant(Strict):
    """Better than the best single answer to every row, by a proper score or by what mistakes cost."""

    metric: Literal["log_loss", "brier", "cost", "rmse", "mae"] | None = None
    """The log loss of labels and the rmse of values where none is named."""


class SliceTest(Strict):
    """No slice worse than the champion's: a paired test of each, Holm's for all of them."""

    metric: str | None = None
    """The champion's where none is named, and so the margin."""
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    columns: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """All that the model has where none is named."""
    min_clusters: Annotated[int, Field(ge=LEAST)] = LEAST
    """Slices of fewer are judged together."""

    @model_validator(mode="after")
    def _margin_in_its_unit(self) -> Self:
        if (self.metric is None) != (self.margin is None):
            raise ValueError("give metric and margin, or neither: a margin is in the metric's unit")
        return self


class Champion(Strict):
    """Not worse than what the environment serves: a paired bootstrap of clusters on the candidate's holdout rows."""

    metric: str
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """In the metric's unit: how much worse would still be called equal."""
    confidence: Confidence = 0.95
    """Of this and of every other paired test."""
    resamples: Annotated[int, Field(ge=200, le=100_000)] = 1000
    seed: int = 0
    recent: Annotated[int, Field(ge=0, le=20)] = 3
    """How many releases before it count as well: margins that each release uses up would add up."""


class ParityLimit(Strict):
    """How far ONNX may be from the native model."""

    max_abs_difference: PositiveFloat
    rows: Annotated[int, Field(ge=100)] = 10_000
    """Compared; the whole holdout where it has fewer."""


class Rules(Strict):
    """What a version must show. Rules that need no figures (digest, signature, barred, …) always apply."""

    images: Annotated[tuple[str, ...], Field(min_length=1)]
    """Repositories that the server's image may come from."""
    metrics: Annotated[tuple[Limit, ...], Field(min_length=1)]
    beats_baseline: Baseline
    beats_constant: Constant = Constant()
    champion: Champion
    slices_against_champion: SliceTest = SliceTest()
    slices: tuple[SliceLimit, ...] = ()
    without_views: tuple[ViewLimit, ...] = ()
    latency_p95_ms: PositiveFloat
    size_mb: PositiveFloat
    memory_mb: PositiveFloat = 300
    """Beside the server's own. `plumbline tree validate` holds it against the limit of the model's pods."""
    parity: ParityLimit
    card: Annotated[tuple[str, ...], Field(min_length=1)]
    """Sections of evaluation/card.yaml that must be there and not be empty."""
    count_tries: bool = True
    """Let each bound be the surer the more runs were judged on one holdout; False is for demonstrations."""
    clean_code: bool = True
    """Refuse a run of code that was not committed."""

    @property
    def slice_test(self) -> tuple[str, float]:
        """Metric and margin of the test of slices."""
        test = self.slices_against_champion
        if test.metric is None or test.margin is None:
            return self.champion.metric, self.champion.margin
        return test.metric, test.margin

    def faults(self, subject: Subject) -> Iterator[Fault]:
        """What the rules name that the model does not have."""
        metrics: dict[str, Limit | Baseline | Champion] = {f"metrics.{i}": rule for i, rule in enumerate(self.metrics)}
        metrics |= {"beats_baseline": self.beats_baseline, "champion": self.champion}
        metrics |= {f"slices.{i}": rule for i, rule in enumerate(self.slices)}
        metrics |= {f"without_views.{i}": rule for i, rule in enumerate(self.without_views)}
        named = {f"{field}.metric": rule.metric for field, rule in metrics.items()}
        also: dict[str, Constant | SliceTest] = {
            "beats_constant": self.beats_constant,
            "slices_against_champion": self.slices_against_champion,
        }
        named |= {f"{field}.metric": rule.metric for field, rule in also.items() if rule.metric is not None}
        columns = self.slices_against_champion.columns or ()
        faults = {
            **{field: subject.metric_fault(metric) for field, metric in named.items()},
            **{f"slices_against_champion.columns.{i}": subject.slice_fault(name) for i, name in enumerate(columns)},
            **{f"slices.{i}.column": subject.slice_fault(rule.column) for i, rule in enumerate(self.slices)},
            **{f"without_views.{i}.view": subject.view_fault(rule.view) for i, rule in enumerate(self.without_views)},
            **{f"card.{i}": subject.section_fault(section) for i, section in enumerate(self.card)},
        }
        return ((field, reason) for field, reason in faults.items() if reason)

    @field_validator("images")
    @classmethod
    def _repositories(cls, images: tuple[str, ...]) -> tuple[str, ...]:
        for image in images:
            if "@" in image or ":" in image.rsplit("/", 1)[-1]:
                raise ValueError(f"{image!r}: name the repository without tag or digest")
        return images


class Environment(Strict):
    """What one environment asks for beyond the rules."""

    lifecycle: Lifecycle
    """What the registry calls a version that is served here."""
    approval: bool = False
    after: Name | None = None
    """The environment that must have served the version first."""
    merge: Literal["automatic", "review"] = "review"
    """Who merges a pull request of promotion, where the branch takes no pushes: the forge, or a person."""
    rules: dict[str, Any] = Field(default_factory=dict)
    """Rules that differ here; each replaces the one above of the same name."""


class PolicySpec(Strict):
    """The rules, and the environments that the model may be promoted to."""

    rules: Rules
    environments: Annotated[dict[Name, Environment], Field(min_length=1)]

    @model_validator(mode="after")
    def _environments_valid(self) -> Self:
        for name, environment in self.environments.items():
            if environment.after is not None and environment.after not in self.environments:
                raise ValueError(f"environments.{name}.after: {environment.after!r} is not one of them")
            try:
                self.rules_of(name)
            except ValidationError as error:
                raise _below(error, "environments", name, "rules") from None
        return self

    def rules_of(self, environment: str) -> Rules:
        """The rules with the environment's own in place."""
        return Rules.model_validate(self.rules.model_dump() | self.environments[environment].rules)


def _below(error: ValidationError, *place: str) -> ValidationError:
    """The same faults of a value that stands further down: pydantic itself puts them where it is validated."""
    faults = [
        InitErrorDetails(
            type=PydanticCustomError("rule", "{words}", {"words": message(item, Rules)}),
            loc=(*place, *item["loc"]),
            input=item["input"],
        )
        for item in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(error.title, faults)


class PolicyMetadata(Strict):
    """The model's name."""

    name: Name


class Policy(Strict):
    """One gate."""

    apiVersion: Literal["plumbline.dev/v1"]
    kind: Literal["PromotionPolicy"]
    metadata: PolicyMetadata
    spec: PolicySpec

    def faults(self, subject: Subject) -> Iterator[Fault]:
        """What the gate names that the model does not have."""
        for field, reason in self.spec.rules.faults(subject):
            yield f"spec.rules.{field}", reason
        for name, environment in self.spec.environments.items():
            for field, reason in self.spec.rules_of(name).faults(subject):
                if field.split(".")[0] in environment.rules:
                    yield f"spec.environments.{name}.rules.{field}", reason
