"""One backup: the dump of each database, and every artifact that was there after the dumps were made.

Artifacts are written once and never changed, and a database names only those that were there before it: dumped first
and copied second, the two always fit. Copies are shared by all backups, so that each night copies what is new.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from fsspec.core import url_to_fs

from plumbline.core.digests import file_hex
from plumbline.core.errors import Misuse

_MARK = "backup.json"


class BackupError(Misuse):
    """It can't be made or brought back; the message says what is missing or differs."""


@dataclass(frozen=True)
class Places:
    """Where backups are kept, and where the artifacts live."""

    store: str
    artifacts: str


@dataclass(frozen=True)
class Backup:
    """The file that makes a backup whole; it is written last."""

    name: str
    dumps: dict[str, str]
    """{file: its sha256}."""
    artifacts: dict[str, int]
    """{path below the artifacts' root: bytes}."""


def keep(places: Places, dumps: Path) -> Backup:
    """Keep the dumps of a folder and copy what artifacts are new; raises BackupError where there are no dumps."""
    files = sorted(dumps.glob("*.dump"))
    if not files:
        raise BackupError(f"{dumps} has no dumps; `pg_dump --format=custom` makes them")
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    store, root = url_to_fs(places.store)
    store.makedirs(f"{root}/{name}", exist_ok=True)
    for file in files:
        store.put_file(str(file), f"{root}/{name}/{file.name}")
    artifacts = _files(places.artifacts)
    _copy(places.artifacts, f"{places.store}/artifacts", artifacts)
    backup = Backup(name, {file.name: file_hex(file) for file in files}, artifacts)
    store.pipe_file(f"{root}/{name}/{_MARK}", json.dumps(asdict(backup), indent=2).encode())
    return backup


def listed(store: str) -> list[str]:
    """Names of the backups that are whole, oldest first."""
    files, root = url_to_fs(store)
    return sorted(Path(path).parent.name for path in files.glob(f"{root}/*/{_MARK}"))


def fetch(places: Places, name: str, out: Path) -> Backup:
    """Bring back the artifacts and write the dumps into a folder; raises BackupError where a byte is not as kept."""
    store, root = url_to_fs(places.store)
    names = listed(places.store)
    if not names or (name and name not in names):
        raise BackupError(f"{places.store} has no whole backup {name or 'at all'}; it has {names}")
    backup = Backup(**json.loads(store.cat_file(f"{root}/{name or names[-1]}/{_MARK}")))
    out.mkdir(parents=True, exist_ok=True)
    for file, digest in backup.dumps.items():
        store.get_file(f"{root}/{backup.name}/{file}", str(out / file))
        if file_hex(out / file) != digest:
            raise BackupError(f"{backup.name}/{file} is not what was kept: its digest differs")
    _copy(f"{places.store}/artifacts", places.artifacts, backup.artifacts)
    return backup


def _files(place: str) -> dict[str, int]:
    """{path below the place: bytes}."""
    files, root = url_to_fs(place)
    listing = files.find(root, detail=True)
    return {path.removeprefix(root).lstrip("/"): int(item["size"]) for path, item in listing.items()}


def _copy(source: str, target: str, wanted: dict[str, int]) -> None:
    """Copy what is not there with the same size; raises BackupError for what the source lacks."""
    there, here = _files(target), _files(source)
    missing = {path: size for path, size in wanted.items() if there.get(path) != size}
    if lost := sorted(path for path, size in missing.items() if here.get(path) != size):
        raise BackupError(f"{source} lacks {len(lost)} artifacts, first {lost[0]}")
    (files, root), (_, into) = url_to_fs(source), url_to_fs(target)
    for path in missing:
        files.makedirs(str(Path(f"{into}/{path}").parent), exist_ok=True)
        files.copy(f"{root}/{path}", f"{into}/{path}")
