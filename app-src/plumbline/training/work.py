"""The work directory through which steps hand on their results, in one process or in one pod each."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from plumbline.core.documents import Strict
from plumbline.core.errors import Misuse
from plumbline.training.model import Model, load

Document = TypeVar("Document", bound=BaseModel)


class WorkError(Misuse):
    """A work directory that lacks what a step needs, or holds another run's."""


class Settings(Strict):
    """What a run is asked to do: `settings.json`, written by the first step and the same for all others."""

    model: str
    experiment: str
    sample: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the rows to train and choose on."""
    trials: Annotated[int, Field(ge=1, le=1000)] = 10
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @field_validator("experiment")
    @classmethod
    def _below_its_model(cls, experiment: str, info: ValidationInfo) -> str:
        model, purpose = info.data.get("model"), experiment.partition("/")[2]
        if experiment != f"{model}/{purpose}" or not purpose:
            raise ValueError(f"not in the hierarchy <model>/<purpose>; expected e.g. {model}/training")
        return experiment


class DataVersion(Strict):
    """Which data the run uses: `data.json`."""

    version: str
    """The md5 that DVC has in dvc.lock, and after a + the digest of the rows of the log, if there are any."""
    digest: str
    """`sha256:…` over all files."""


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)


class Work:
    """Names of the files in a work directory, and what is in them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.data_version = root / "data.json"
        self.tables = root / "tables"
        self.schema = root / "schema.json"
        self.trials = root / "trials"
        self.best = root / "best.json"
        self.native = root / "native"
        self.evaluation = root / "evaluation"
        self.plots = root / "plots"
        self.bundle = root / "bundle"

    def hand_on(self, name: str, value: str) -> None:
        """Write a value alone into `parameters/<name>`: what a Workflow passes between steps as text."""
        with written(self.root / "parameters" / name) as temporary:
            temporary.write_text(value, encoding="utf-8")

    def rows(self, part: str) -> Path:
        """The prepared rows of `train`, `validation` or `test`."""
        return self.root / f"{part}.parquet"

    @cached_property
    def settings(self) -> Settings:
        """What this run was asked to do; raises WorkError where no run was begun here."""
        return self.read(self.root / "settings.json", Settings)

    @cached_property
    def model(self) -> Model:
        """The definition that the settings name."""
        return load(self.settings.model)

    def begin(self, settings: Settings) -> None:
        """Write the settings, or take up the run that has the same; raises WorkError where they differ."""
        path = self.root / "settings.json"
        if path.exists() and self.settings != settings:
            raise WorkError(f"{path}: holds a run with other settings ({self.settings}); expected an empty folder")
        self.write(path, settings)

    def read(self, path: Path, shape: type[Document]) -> Document:
        """Read a document that an earlier step wrote; raises WorkError that names it."""
        try:
            return shape.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise WorkError(f"{path} is missing; run the steps before this one first") from error
        except ValidationError as error:
            raise WorkError(f"{path}: {error}") from error

    def write(self, path: Path, document: BaseModel) -> None:
        """Write a document, whole or not at all."""
        with written(path) as temporary:
            temporary.write_text(document.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def done(self, step: str) -> bool:
        """Whether a step ended well here."""
        return (self.root / "done" / step).exists()

    def mark(self, step: str) -> None:
        """Record that a step ended well."""
        with written(self.root / "done" / step) as temporary:
            temporary.write_text("", encoding="utf-8")
