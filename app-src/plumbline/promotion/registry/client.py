"""MLflow as the registry: registered models, versions, life cycle, and the artifacts of their runs.

A version exists from the moment that it carries the tag `semver`: registration writes that tag last, so that one that
died half-way is never seen here. Every other tag is set in the call that creates the version.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import yaml

from plumbline.core.errors import Accident, PlumblineError, Refused
from plumbline.core.reach import tracking_server
from plumbline.promotion.registry.lifecycle import Lifecycle, check_move
from plumbline.promotion.registry.version import HOLDOUT, RECIPE, TRAINED_BY, Version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_OURS = {*RECIPE.values(), "lifecycle", "digest", "evaluation.digest", "threshold", "data.digest", "workflow"}


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn MLflow's errors into ours: not there is Refused, everything else is Accident."""
    try:
        yield
    except PlumblineError:
        raise
    except OSError as error:
        raise Accident(f"MLflow, {what}: {error}; try again when it answers") from error
    except Exception as error:
        from mlflow.exceptions import MlflowException  # imported by now; it is slow, and a server is asked first

        if not isinstance(error, MlflowException):
            raise
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise Refused(f"MLflow, {what}: {error.message}") from error
        raise Accident(f"MLflow, {what}: {error.message}; try again when it answers") from error


class Registry:
    """The registry at a tracking server's address; MLFLOW_TRACKING_URI where none is given."""

    def __init__(self, address: str | None = None) -> None:
        self._given = address

    @cached_property
    def _address(self) -> str:
        return tracking_server(self._given)

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's client; imported late, since that takes seconds."""
        address = self._address
        from mlflow import MlflowClient

        return MlflowClient(address)

    def run(self, run_id: str) -> "Run":
        """A run; raises Refused where there is none."""
        with _asking(f"run {run_id}"):
            return self.client.get_run(run_id)

    def versions(self, model: str) -> list[Version]:
        """Every version, finished or not, oldest first; what was created by other means than `register` is left out."""
        with _asking(f"versions of {model}"):
            listed = self._pages(f"name = '{model}'")
        ours = self._ours(listed, _OURS)
        return sorted(ours, key=lambda version: int(version.number))

    def tries(self, version: Version, holdout: str) -> int:
        """How many runs of its model were judged on a holdout, deleted ones and this version's own included."""
        from mlflow.entities import ViewType

        with _asking(f"runs of {version.model} on one holdout"):
            experiments = self.client.search_experiments(ViewType.ALL, filter_string=f"name LIKE '{version.model}/%'")
            condition, token = f"tags.`{HOLDOUT}` = '{holdout}'", None
            runs = {version.run}
            while experiments:
                page = self.client.search_runs(
                    [item.experiment_id for item in experiments], condition, ViewType.ALL, page_token=token
                )
                runs |= {run.info.run_id for run in page}
                if not (token := page.token):
                    break
        same = [item for item in self.versions(version.model) if item.tags.get(HOLDOUT) == holdout]
        return len(runs.union(*(item.runs for item in same)))

    def trainers(self, version: Version) -> dict[str, str]:
        """{user: what they did} of every run that made these bytes, by what the runs said when they were registered.

        A run's user is what its client wrote: it keeps nobody out who lies, and tells honest people apart.
        """
        first = version.tags.get(TRAINED_BY)
        users = [first if first is not None else self.run(version.run).data.tags.get("mlflow.user", "")]
        users += [self.run(run).data.tags.get("mlflow.user", "") for run in version.runs[1:]]
        return {user: "trained it" for user in users if user}

    def age_days(self, version: Version) -> float:
        """Days since it was registered."""
        with _asking(f"{version.model}/{version.number}"):
            made = self.client.get_model_version(version.model, version.number).creation_timestamp
        return (time.time() - made / 1000) / 86400

    def search(self, condition: str) -> list[Version]:
        """Finished versions of every model, all or by MLflow's search language (`tags.lifecycle = 'Staging'`)."""
        with _asking(f"search {condition!r}"):
            listed = self._pages(condition)
        return self._ours(listed, _OURS | {"semver"})

    def _ours(self, listed: list[Any], tags: set[str]) -> list[Version]:
        """Those that carry the tags, with their aliases, which MLflow's search leaves out: of all models at once."""
        kept = [item for item in listed if item.tags.keys() >= tags]
        models = {item.name for item in kept}
        with _asking("aliases"):
            if len(models) == 1:
                named = [self.client.get_registered_model(*models)]
            else:
                named = _paged(partial(self.client.search_registered_models, max_results=1000)) if models else []
        aliases = {item.name: item.aliases for item in named}
        return [_version(item, aliases.get(item.name, {})) for item in kept]

    def _pages(self, condition: str) -> list[Any]:
        return _paged(partial(self.client.search_model_versions, condition))

    def everything(self) -> dict[str, list[Version]]:
        """{model: what `versions` returns of it}, in two questions however many models there are."""
        with _asking("versions of all models"):
            listed = self._pages("")
        models: dict[str, list[Version]] = {}
        for version in sorted(self._ours(listed, _OURS), key=lambda version: int(version.number)):
            models.setdefault(version.model, []).append(version)
        return models

    def find(self, model: str, semver: str) -> Version:
        """The one version of that name; raises Refused where there is none or, tags being tags, two."""
        versions = self.versions(model)
        matching = [version for version in versions if version.tags.get("semver") == semver]
        if len(matching) == 1:
            return matching[0]
        registered = ", ".join(str(version.semver) for version in versions if version.semver) or "none"
        if matching:
            numbers = [version.number for version in matching]
            raise Refused(f"{model} {semver}: the registry versions {numbers} both carry this name; correct the tags")
        raise Refused(
            f"{model} has no version {semver}; registered: {registered}. `plumbline promote register --run …` makes one"
        )

    def create(self, model: str, source: str, run_id: str, tags: dict[str, str]) -> Version:
        """Create an unfinished version (no `semver` yet), and the registered model where it is the first."""
        from mlflow.exceptions import MlflowException

        with _asking(f"create a version of {model}"):
            try:
                self.client.create_registered_model(model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            made = self.client.create_model_version(model, source, run_id, tags=tags, await_creation_for=0)
        return _version(made, {})

    def drop_unfinished(self, version: Version) -> None:
        """Delete a version that lost a race to another registration of the same run."""
        if version.semver is not None:
            raise PlumblineError(f"{version.model} {version.semver} is finished and is not deleted")
        with _asking(f"delete {version.model}/{version.number}"):
            self.client.delete_model_version(version.model, version.number)

    def tag(self, version: Version, tags: dict[str, str]) -> None:
        """Set tags, in their order."""
        from mlflow.exceptions import MlflowException

        with _asking(f"tag {version.model}/{version.number}"):
            for key, value in tags.items():
                try:
                    self.client.set_model_version_tag(version.model, version.number, key, value)
                except MlflowException as error:
                    # MLflow looks, then inserts: where two register one run at once, the other's row is there by now.
                    if not any(word in error.message for word in ("IntegrityError", "UniqueViolation")):
                        raise
                    self.client.set_model_version_tag(version.model, version.number, key, value)

    def tag_run(self, run_id: str, tags: dict[str, str]) -> None:
        """Set tags of a run."""
        with _asking(f"tag run {run_id}"):
            for key, value in tags.items():
                self.client.set_tag(run_id, key, value)

    def move(self, version: Version, target: Lifecycle) -> None:
        """Move a version in its life cycle; raises Refused where that is no legal move."""
        check_move(version.lifecycle, target, rejected=bool(version.rejected))
        self.tag(version, {"lifecycle": target.value})
        version.tags["lifecycle"] = target.value
        self.describe(version)

    def describe(self, version: Version) -> None:
        """Let the description begin with the version's headline; what people wrote below stays."""
        first, _, rest = version.description.partition("\n")
        if first == version.headline:
            return
        kept = rest if first.startswith(f"{version.semver} ·") else f"\n{version.description}"
        with _asking(f"describe {version.model} {version.semver}"):
            text = f"{version.headline}\n{kept}".rstrip()
            self.client.update_model_version(version.model, version.number, description=text)

    def name(self, version: Version, semver: str) -> None:
        """Give a version its name, and MLflow's pages what they show first; the tag that makes it findable is last."""
        with _asking(f"name {version.model}/{version.number}"):
            self.tag_run(version.run, {"semver": semver})
            self.client.set_registered_model_alias(version.model, _as_alias(semver), version.number)
        version.tags["semver"] = semver
        self.describe(version)
        self.tag(version, {"semver": semver})

    def alias(self, version: Version, name: str) -> None:
        """Point an alias (an environment's name) at a version; a tag of the model says its semantic version."""
        with _asking(f"alias {name} of {version.model}"):
            self.client.set_registered_model_alias(version.model, name, version.number)
            self.client.set_registered_model_tag(version.model, name, str(version.semver))

    def remove_alias(self, version: Version, name: str) -> None:
        """Take an alias from a version."""
        with _asking(f"remove alias {name} of {version.model}"):
            self.client.delete_registered_model_alias(version.model, name)
            self.client.delete_registered_model_tag(version.model, name)

    def names(self, run_id: str, folder: str) -> dict[str, int]:
        """{path below `folder`: bytes} of a run's artifacts, folders walked through; raises Refused for odd names."""
        sizes: dict[str, int] = {}
        pending = [folder]
        with _asking(f"artifacts of run {run_id}"):
            while pending:
                for item in self.client.list_artifacts(run_id, pending.pop()):
                    if not item.path.startswith(folder + "/") or ".." in Path(item.path).parts:
                        raise Refused(f"artifacts of run {run_id}: the path {item.path!r} leads out of {folder}/")
                    if item.is_dir:
                        pending.append(item.path)
                    else:
                        sizes[item.path.removeprefix(folder + "/")] = int(item.file_size or 0)
        return sizes

    def download(self, run_id: str, folder: str, into: Path) -> Path:
        """Copy a folder of a run's artifacts; returns where it stands."""
        what = f"{folder}/ of run {run_id}"
        try:
            with _asking(what):
                return Path(self.client.download_artifacts(run_id, folder, str(into)))
        except Refused as error:
            # Whatever went wrong on the way, MLflow says that there is nothing.
            with _asking(what):
                there = self.client.list_artifacts(run_id, folder)
            if there:
                raise Accident(
                    f"MLflow, {what}: listed, but it can't be fetched; try again when its store answers"
                ) from error
            raise

    def upload(self, run_id: str, path: Path, folder: str) -> None:
        """Add a file to a run's artifacts."""
        with _asking(f"write {folder}/{path.name} of run {run_id}"):
            self.client.log_artifact(run_id, str(path), folder)

    def fetch(self, uri: str, into: Path) -> Path:
        """Copy an artifact of MLflow's by its URI."""
        import mlflow.artifacts
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            with _asking(uri):
                return Path(
                    mlflow.artifacts.download_artifacts(
                        artifact_uri=uri, dst_path=str(into), tracking_uri=self._address
                    )
                )
        except (BotoCoreError, ClientError) as error:  # of an address that MLflow asks the store for itself
            raise Accident(f"{uri}: {error}; try again when it answers") from error

    def flavours(self, run_id: str) -> list[str]:
        """Flavours of the models that the run logged (xgboost, pytorch, tensorflow, …), read and never loaded."""
        with _asking(f"logged models of run {run_id}"):
            run = self.client.get_run(run_id)
            outputs = run.outputs.model_outputs if run.outputs is not None else []
            flavours: set[str] = set()
            for output in outputs:
                model = self.client.get_logged_model(output.model_id)
                with tempfile.TemporaryDirectory(prefix="promotion-") as folder:
                    text = self.fetch(f"{model.artifact_location}/MLmodel", Path(folder)).read_text(encoding="utf-8")
                flavours |= set(yaml.safe_load(text)["flavors"])
        return sorted(flavours)


def _paged(search: Callable[..., Any]) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = search(page_token=token)
        found += page
        if not (token := page.token):
            return found


def _version(item: Any, aliases: Mapping[str, Any]) -> Version:
    tags, own = dict(item.tags), _as_alias(item.tags.get("semver", ""))
    mine = tuple(
        sorted(alias for alias, number in aliases.items() if str(number) == str(item.version) and alias != own)
    )
    return Version(item.name, str(item.version), item.run_id, item.source, tags, mine, item.description or "")


def _as_alias(semver: str) -> str:
    """MLflow's aliases have no dots: `models:/flights@v1-0-0`."""
    return semver.replace(".", "-")


def bundle_uri(artifact_uri: str) -> str:
    """The URI of a run's bundle; a plain path, as MLflow's embedded default has it, becomes file://."""
    base = artifact_uri.rstrip("/")
    if urlparse(base).scheme == "":
        base = Path(unquote(base)).absolute().as_uri()
    return f"{base}/bundle"
