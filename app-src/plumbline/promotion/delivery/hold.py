"""Holds and freezes: what no automation moves for a while, by a person's word in git.

`policies/holds/<environment>/<model>.yaml` holds one model, `policies/freezes/<environment>.yaml` every model of an
environment. Either ends by itself at its `until`, or when the file is deleted.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Literal

from pydantic import AwareDatetime, model_validator

from plumbline.core.documents import DocumentError, Strict, parse
from plumbline.core.errors import Misuse, Refused
from plumbline.core.names import Line, Name, plain_line
from plumbline.promotion.delivery.documents import checked, dump
from plumbline.promotion.delivery.git import Change, Checkout, Subject, checkout
from plumbline.promotion.delivery.proposal import Delivered, write
from plumbline.promotion.delivery.records import require_environment
from plumbline.promotion.settings import Settings

LONGEST = timedelta(days=90)
"""A hold that nobody renews is one that nobody remembers."""


class HeldError(Refused):
    """A person's word keeps it as it is; the message says whose, why and until when."""


class Hold(Strict):
    """Somebody's word that a model, or where none is named every model, of an environment stays as it is."""

    apiVersion: Literal["plumbline.dev/v1"] = "plumbline.dev/v1"
    kind: Literal["Hold", "Freeze"]
    environment: Name
    model: Name | None = None
    by: Line
    reason: Line
    at: AwareDatetime
    until: AwareDatetime

    @model_validator(mode="after")
    def _ends(self) -> "Hold":
        if (self.kind == "Hold") != (self.model is not None):
            raise ValueError("a Hold names a model, a Freeze names none")
        if not timedelta(0) <= self.until - self.at <= LONGEST:
            raise ValueError(f"until: expected a time that is not before `at`, {LONGEST.days} days later at most")
        return self

    @property
    def stands(self) -> bool:
        """Whether it is not over yet."""
        return datetime.now(UTC) < self.until

    def __str__(self) -> str:
        what = f"{self.environment} is frozen" if self.model is None else f"{self.model} is held in {self.environment}"
        return f"{what} until {self.until.isoformat(timespec='minutes')} by {self.by}: {self.reason}"


def hold_path(environment: str, model: str | None) -> str:
    """Where git holds it; without a model, the freeze of an environment."""
    return f"policies/holds/{environment}/{model}.yaml" if model else f"policies/freezes/{environment}.yaml"


def held(tree: Checkout, environment: str, model: str) -> Hold | None:
    """What keeps a model of an environment as it is by now; a broken record raises DocumentError: it may be one."""
    records = (_read(tree, hold_path(environment, name)) for name in (model, None))
    return next((record for record in records if record is not None and record.stands), None)


def refuse_held(tree: Checkout, environment: str, model: str) -> None:
    """Raise HeldError where somebody holds the model, or froze the environment."""
    if (hold := held(tree, environment, model)) is not None:
        path = hold_path(environment, hold.model)
        raise HeldError(f"{hold} ({path}); `plumbline promote thaw` ends it")


def problems(tree: Checkout) -> Iterator[tuple[str, str]]:
    """(file, what is wrong with it) of every record that holds nothing, or not what its place says."""
    names = tree.names("policies", "holds/**/*.yaml") + tree.names("policies", "freezes/**/*.yaml")
    for name in names:
        try:
            record = _read(tree, name)
            assert record is not None  # noqa: S101 - it was listed
            if (expected := hold_path(record.environment, record.model)) != name:
                raise DocumentError(f"expected at {expected}, by its environment and model")
            require_environment(tree, record.environment)
            folder = f"clusters/{record.environment}/models/{record.model}"
            if record.model is not None and not tree.is_folder(folder):
                raise DocumentError(f"model: {record.model!r} is no model of {record.environment}: no {folder}")
        except (DocumentError, Refused) as error:
            yield name, str(error).removeprefix(f"{name}: ")


def hold(
    settings: Settings, environment: str, model: str | None, by: str, reason: str, length: timedelta
) -> tuple[Hold, Delivered]:
    """Commit a hold, or a freeze where no model is given, from now for `length`; returns it and where it went.

    One that stands is replaced: the newer word counts. Raises Refused for an unknown environment or model.
    """
    if length > LONGEST:
        raise Misuse(f"--for: {LONGEST.days}d at most; renew it then")
    kind = "Hold" if model else "Freeze"
    until = datetime.now(UTC).replace(microsecond=0) + length
    record = checked(Hold, kind=kind, environment=environment, model=model, by=by, reason=reason, until=until)
    path = hold_path(environment, model)

    def change() -> Change:
        require_environment(tree, environment)
        if model is not None and not tree.is_folder(f"clusters/{environment}/models/{model}"):
            raise Refused(f"clusters/{environment}/models/{model}/ is not in git: {environment} has no such model")
        title = f"{model}({environment}): held" if model else f"{environment}: frozen"
        body = f"Held-by: {by}\nReason: {reason}\nUntil: {until.isoformat()}\n"
        about = Subject("hold", model or "", "", environment)
        return Change({path: dump(record)}, f"{title} until {until:%Y-%m-%d %H:%M} UTC\n\n{body}", about)

    with checkout(settings) as tree:
        delivered = write(tree, change)
        assert delivered is not None  # noqa: S101 - `change` always makes one
        return record, delivered


def thaw(settings: Settings, environment: str, model: str | None, by: str, reason: str) -> Delivered | None:
    """End a hold or a freeze before its time; returns where that went, or None where there is none that stands."""
    path = hold_path(environment, model)
    plain_line(by, "by")
    plain_line(reason, "reason")

    def change() -> Change | None:
        require_environment(tree, environment)
        record = _read(tree, path)
        if record is None or not record.stands:
            return None
        now = datetime.now(UTC).replace(microsecond=0)
        ended = record.model_copy(update={"until": max(now, record.at)})
        what = f"{model}({environment}): no longer held" if model else f"{environment}: no longer frozen"
        about = Subject("hold", model or "", "", environment)
        return Change({path: dump(ended)}, f"{what}\n\nEnded-by: {by}\nReason: {reason}\n", about)

    with checkout(settings) as tree:
        return write(tree, change)


def _read(tree: Checkout, path: str) -> Hold | None:
    text = tree.read(path)
    if text is None:
        return None
    record = parse(text, Hold, path)
    model = None if record.kind == "Freeze" else PurePath(path).stem
    if record.model != model:
        raise DocumentError(f"model: expected {model!r}, as the file is named, not {record.model!r}", source=path)
    return record
