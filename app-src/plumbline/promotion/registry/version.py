"""A registered version, and the tags that say what it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from plumbline.core.digests import sha256_of_json
from plumbline.core.errors import Refused
from plumbline.core.names import SemVer
from plumbline.promotion.registry.lifecycle import Lifecycle
from plumbline.promotion.registry.versioning import Recipe

Shape = TypeVar("Shape")
HOLDOUT = "holdout.digest"
"""The tag that says on which rows a run was judged."""
ROWS_OF = "holdout.data"
"""The tag that holds the digest of the data that those rows were made of anew; empty where they are the run's word."""
STORED = "artifact.uri"
"""The tag that says where a version stands in the release store."""
WEIGHTS = "weights.digest"
TRAINED_BY = "trained.by"
"""The tag that holds the run's user as it was at registration."""
RECIPE = {
    "interface": "schema.interface",
    "schema": "schema.digest",
    "code": "code.commit",
    "kind": "model.kind",
    "parameters": "parameters.digest",
}


@dataclass(frozen=True)
class Version:
    """A registered version."""

    model: str
    number: str
    """MLflow's own counter."""
    run: str
    source: str
    tags: dict[str, str]
    aliases: tuple[str, ...]
    """The environments that serve it."""
    description: str

    @property
    def semver(self) -> SemVer | None:
        """None while registration has not finished."""
        return self._read("semver", SemVer.parse) if "semver" in self.tags else None

    @property
    def digest(self) -> str:
        """`sha256:…` of the bundle."""
        return self.tags["digest"]

    @property
    def released(self) -> str:
        """Where its bytes stand in the release store."""
        if STORED not in self.tags:
            raise Refused(f"{self.model}/{self.number}: it is in no release store; train and register it anew")
        return self.tags[STORED]

    @property
    def threshold(self) -> float | None:
        """Of a binary classifier."""
        return self._read("threshold", float) if self.tags["threshold"] else None

    @property
    def lifecycle(self) -> Lifecycle:
        """Where it stands."""
        return self._read("lifecycle", Lifecycle)

    @property
    def rejected(self) -> str:
        """Which metric it was rejected for, or empty."""
        return self.tags.get("rejected", "")

    @property
    def runs(self) -> tuple[str, ...]:
        """Every run that made these bytes, the one that was registered first."""
        return (self.run, *filter(None, self.tags.get("runs", "").split(",")))

    def proved(self, environment: str) -> bool:
        """Whether the environment had it stable; its tag is set by `plumbline promote reconcile` or `sync`."""
        return bool(self.tags.get(f"proved.{environment}"))

    @property
    def headline(self) -> str:
        """The first line of its description, which MLflow's list of versions shows: name, life cycle, where served."""
        served = f"served by {', '.join(self.aliases)}" if self.aliases else ""
        rejected = f"rejected for {self.rejected}" if self.rejected else ""
        return " · ".join(filter(None, [str(self.semver), self.lifecycle, served, rejected]))

    @property
    def recipe(self) -> Recipe:
        """What decided its number."""
        return Recipe(**{field: self.tags[tag] for field, tag in RECIPE.items()})

    @property
    def made_by(self) -> str:
        """Digest of all that it was made from; empty where its code was no commit, so that nobody can tell.

        Not of the graph's operators: with one more that does nothing it would be made of something else.
        """
        if self.tags.get("code.dirty", "").lower() not in ("", "false"):
            return ""
        made = ("data.digest", *(RECIPE[field] for field in ("code", "parameters", "schema")))
        return sha256_of_json([self.tags[tag] for tag in made])

    def _read(self, tag: str, shape: Callable[[str], Shape]) -> Shape:
        try:
            return shape(self.tags[tag])
        except ValueError as error:
            raise Refused(f"{self.model}/{self.number}: somebody set the tag {tag} by hand: {error}") from error
