"""Which code a run names."""

import subprocess

from plumbline.training import provenance


def test_the_commit_of_the_work_tree_and_whether_files_differ(tmp_path, monkeypatch):
    def git(*arguments):
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    code = tmp_path / "app-src" / "training" / "provenance.py"
    code.parent.mkdir(parents=True)
    code.write_text("")
    (tmp_path / "README.md").write_text("")
    git("init", "-q")
    monkeypatch.setattr(provenance, "__file__", str(code))
    monkeypatch.delenv("TRAINING_CODE_COMMIT", raising=False)
    assert provenance.code_version() == ("0" * 40, True), "no commit yet"
    git("add", ".")
    git("commit", "-qm", "first")
    assert provenance.code_version() == (git("rev-parse", "HEAD"), False)
    (tmp_path / "README.md").write_text("changed")
    assert provenance.code_version()[1] is False, "the README is not code"
    code.write_text("changed")
    assert provenance.code_version() == (git("rev-parse", "HEAD"), True)


def test_an_image_names_its_commit_and_without_one_nobody_can_go_back(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("TRAINING_CODE_COMMIT", "a" * 40)
    assert provenance.code_version() == ("a" * 40, False)
    monkeypatch.delenv("TRAINING_CODE_COMMIT")
    assert provenance.code_version() == ("0" * 40, True)
