"""What is kept together comes back together, and what was changed or lost is named."""

import json

import pytest
from typer.testing import CliRunner

from plumbline.backup.cli import app
from plumbline.backup.keep import BackupError, Places, fetch, keep, listed


@pytest.fixture
def places(tmp_path):
    """Two dumps, two artifacts, and a place for backups."""
    for name, text in {
        "dumps/a.dump": "A",
        "dumps/b.dump": "B",
        "live/1/model": "one",
        "live/2/deep/model": "two",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Places(str(tmp_path / "store"), str(tmp_path / "live"))


def test_dumps_and_artifacts_come_back_as_they_were(places, tmp_path):
    kept = keep(places, tmp_path / "dumps")
    assert listed(places.store) == [kept.name]
    (tmp_path / "live" / "1" / "model").unlink()
    (tmp_path / "live" / "2" / "deep" / "model").write_text("cut sho")
    (tmp_path / "live" / "3").write_text("newer, and left as it is")
    assert fetch(places, "", tmp_path / "out") == kept
    found = {
        path.relative_to(tmp_path).as_posix(): path.read_text()
        for path in (tmp_path / "live").rglob("*")
        if path.is_file()
    }
    assert found == {"live/1/model": "one", "live/2/deep/model": "two", "live/3": "newer, and left as it is"}
    assert [(tmp_path / "out" / name).read_text() for name in ("a.dump", "b.dump")] == ["A", "B"]


def test_a_later_backup_copies_what_is_new_alone(places, tmp_path):
    keep(places, tmp_path / "dumps")
    copy = tmp_path / "store" / "artifacts" / "1" / "model"
    before = copy.stat().st_mtime_ns
    (tmp_path / "live" / "4").write_text("four")
    kept = keep(places, tmp_path / "dumps")
    assert set(kept.artifacts) == {"1/model", "2/deep/model", "4"}
    assert copy.stat().st_mtime_ns == before


def test_a_backup_without_its_last_file_is_none(places, tmp_path):
    kept = keep(places, tmp_path / "dumps")
    (tmp_path / "store" / kept.name / "backup.json").unlink()
    assert listed(places.store) == []
    with pytest.raises(BackupError, match="has no whole backup"):
        fetch(places, "", tmp_path / "out")


def test_a_changed_dump_and_a_lost_artifact_are_named(places, tmp_path):
    kept = keep(places, tmp_path / "dumps")
    (tmp_path / "store" / kept.name / "a.dump").write_text("X")
    with pytest.raises(BackupError, match=r"a\.dump is not what was kept"):
        fetch(places, kept.name, tmp_path / "out")
    (tmp_path / "store" / kept.name / "a.dump").write_text("A")
    for place in ("store/artifacts", "live"):
        (tmp_path / place / "1" / "model").unlink()
    with pytest.raises(BackupError, match="lacks 1 artifacts, first 1/model"):
        fetch(places, kept.name, tmp_path / "out")


def test_the_command_says_what_it_did_and_fails_in_one_line(places, tmp_path, monkeypatch):
    monkeypatch.setenv("BACKUP_STORE", places.store)
    monkeypatch.setenv("MLFLOW_ARTIFACTS", places.artifacts)
    run = CliRunner().invoke
    assert "has no dumps" in run(app, ["keep", "--dumps", str(tmp_path / "live")]).output
    assert "2 dumps, 2 artifacts" in run(app, ["keep", "--dumps", str(tmp_path / "dumps")]).output
    (name,) = run(app, ["list"]).output.split()
    assert "2 dumps, 2 artifacts" in run(app, ["fetch", "--out", str(tmp_path / "out"), "--name", name]).output
    assert json.loads((tmp_path / "store" / name / "backup.json").read_text())["name"] == name
    fetched = json.loads(run(app, ["fetch", "--out", str(tmp_path / "out"), "--json"]).stdout)
    assert (fetched["name"], set(fetched["dumps"]), fetched["artifacts"]) == (name, {"a.dump", "b.dump"}, 2)
    missing = run(app, ["fetch", "--out", str(tmp_path / "out"), "--name", "never"])
    assert missing.exit_code == 2
    assert "has no whole backup never" in missing.output
