"""What the documents say about the tree is true of the tree."""

import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

import pytest
import typer.main

from plumbline.cli import MODULES, WHOLE
from plumbline.core import errors

ROOT = Path(__file__).resolve().parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
PLACES = {*TRACKED, *(str(folder) for name in TRACKED for folder in Path(name).parents)}
DOCUMENTS = sorted(name for name in TRACKED if name.endswith(".md"))
TODAY = [name for name in DOCUMENTS if name != "CHANGELOG.md"]
"""Those that speak of the tree as it is; the change log names what was, too."""
WRITTEN = {"docs/benchmarks.md", "docs/estimators.md", "docs/mutants.md", "docs/versions.md"}
"""By programs."""
TOPS = sorted({name.split("/")[0] for name in TRACKED if "/" in name}, key=len, reverse=True)
PATH = re.compile(rf"(?<![\w./>-])(?:{'|'.join(map(re.escape, TOPS))}|plumbline)/[\w.<>*/-]*")
MADE = ["clusters/*/models/*/release.yaml", "policies/approvals", "policies/barred", "policies/drift/*.yaml",
        "app-src/models/*/rows.csv", "app-src/models/*/logged.yaml", "app-src/models/churn/*", "policies/*/churn.yaml",
        "policies/approvals/*", "policies/barred/*", "policies/holds/*", "policies/freezes/*",
        "policies/skips/*"]  # fmt: skip
"""What promotion or a person writes, and a fresh tree need not have; `churn` is the model of the guide."""
FORMER = re.compile(
    r"(?:^|-m )(?:training|promotion|serving|monitoring|scoring|backup|gitops)(?:(?: [a-z-]+)* --| [a-z]+$)|-m serving"
)
"""A command line of before the one package."""
SECRETS_OF_AWS = "plumbline/(<environment>|staging)/"


def pieces(name: str) -> Iterator[str]:
    """The code of a document: spans, each on one line, and the lines of its blocks, but those of diagrams."""
    text = (ROOT / name).read_text(encoding="utf-8")
    fence = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
    for language, block in fence.findall(text):
        if language != "mermaid":
            yield from block.splitlines()
    prose = fence.sub("", text)
    yield from re.findall(r"^ {4}(\S.*)$", prose, re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", prose):
        yield " ".join(span.split())


def slugs(name: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    made: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        made[slug] = made.get(slug, -1) + 1
        if made[slug]:
            made[f"{slug}-{made[slug]}"] = 0
    return set(made)


def broken(name: str, link: str) -> bool:
    """Whether a relative link leads to no file, or to no heading of it."""
    target, _, anchor = link.partition("#")
    path = ((ROOT / name).parent / target).resolve() if target else ROOT / name
    if not path.exists():
        return True
    return bool(anchor) and anchor not in slugs(str(path.relative_to(ROOT)))


def absent(path: str) -> bool:
    """Whether nothing of the tree has that path; `<…>` stands for any name."""
    pattern = re.sub(r"<[^>]+>", "*", path).rstrip("/.")
    pattern = re.sub(r"^plumbline(?=/)", "app-src/plumbline", pattern)
    return not any(fnmatchcase(place, pattern) for place in PLACES) and not any(fnmatchcase(pattern, m) for m in MADE)


def misuse(words: str) -> str:
    """What is wrong with what follows `plumbline`, or nothing: its subcommands and options are asked."""
    topic, *rest = words.split()
    if topic not in MODULES:
        return f"no command {topic!r}"
    application = import_module(f"plumbline.{MODULES[topic]}").app
    if not isinstance(application, typer.Typer):
        return "takes nothing" if any(word.startswith("-") for word in rest) else ""
    command = typer.main.get_command(application)
    if commands := getattr(command, "commands", {}):
        if topic in WHOLE:
            rest = [topic, *rest]
        if not rest or not re.fullmatch("[a-z-]+", rest[0]):
            return ""
        if rest[0] not in commands:
            return f"no command {topic} {rest[0]}"
        command = commands[rest.pop(0)]
    while (commands := getattr(command, "commands", {})) and rest and re.fullmatch("[a-z][a-z-]*", rest[0]):
        if rest[0] not in commands:
            return f"no command {topic} {rest[0]}"
        command = commands[rest.pop(0)]
    options = {"--help", *(option for item in command.params for option in (*item.opts, *item.secondary_opts))}
    unknown = [word for word in rest if re.match(r"--?[a-z]", word) and word.split("=")[0].strip("[]") not in options]
    return f"no option {', '.join(unknown)}" if unknown else ""


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name not in WRITTEN])
def test_prose_has_lines_of_120_characters_at_most(name: str) -> None:
    text = re.sub(r"^ *```.*?^ *```$", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    # A row of a table, a heading, a block and a diagram are lines that can't be broken.
    assert [line for line in text.splitlines() if len(line) > 120 and not line.startswith(("|", "#", "    "))] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_relative_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    missing = [link for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)", text) if broken(name, link)]
    assert not missing, f"{name} links to files or headings that do not exist: {missing}"


@pytest.mark.parametrize("name", TODAY)
def test_paths_named_in_documents_exist(name: str) -> None:
    named = {path for piece in pieces(name) for path in PATH.findall(piece) if not re.match(SECRETS_OF_AWS, path)}
    assert not (missing := sorted(filter(absent, named))), f"{name} names paths that do not exist: {missing}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_named_in_documents_are_commands(name: str) -> None:
    named = {
        words.split(" #")[0].split(" && ")[0]
        for piece in pieces(name)
        for words in re.findall(r"(?:^|(?<=[ (»\"]))plumbline ([a-z].*)", piece)
    }
    wrong = {words: problem for words in sorted(named) if (problem := misuse(words))}
    assert not wrong, f"{name} names commands that do not exist: {wrong}"


@pytest.mark.parametrize("name", TODAY)
def test_commands_are_called_by_their_names_of_today(name: str) -> None:
    assert not [piece for piece in pieces(name) if FORMER.search(piece)]


@pytest.mark.parametrize("name", TODAY)
def test_python_names_in_documents_can_be_imported(name: str) -> None:
    for piece in pieces(name):
        for dotted in re.findall(r"(?<![\w/])plumbline\.(?!dev)[\w.]+", piece):
            resolve_name(dotted.rstrip("."))


def test_what_is_wrong_in_a_document_is_found() -> None:
    assert misuse("promote promote --model flights") == "no command promote promote"
    assert misuse("train run --modle flights") == "no option --modle"
    assert misuse("sing") == "no command 'sing'"
    assert misuse("monitor experiment plan --callers 3 --seed 1") == "no option --seed"
    assert misuse("monitor experiment dance") == "no command monitor dance"
    assert not misuse("monitor drift --model flights --exit-code")
    assert broken("README.md", "docs/serving.md#no-such-heading")
    assert not broken("docs/runbooks/serving.md", "../serving.md#api-keys")
    assert FORMER.search("monitoring readout --model flights")
    assert FORMER.search("python -m serving")
    assert not FORMER.search("plumbline monitor readout --model flights")
    assert absent("plumbline/core/no_such_module.py")
    assert absent("clusters/<env>/no-such-folder/")
    assert not absent("plumbline/core/errors.py")
    assert not absent("clusters/<env>/models/<model>/release.yaml")


def test_documents_named_in_the_tree_exist() -> None:
    named = {
        (name, document)
        for name in TRACKED
        if name.endswith((".py", ".yaml", ".j2", ".toml")) or name == "Makefile" or name.startswith("scripts/")
        for document in re.findall(r"(?<![\w/])docs/[\w/-]+\.md", (ROOT / name).read_text(encoding="utf-8"))
    }
    assert named
    assert sorted((name, document) for name, document in named if document not in TRACKED) == []


def test_make_targets_named_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        (name, target)
        for name in DOCUMENTS
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert ("README.md", "test") in named
    assert {(name, target) for name, target in named if target not in targets} == set()


def test_ci_runs_the_commands_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"```sh\n(.*?)```", readme, re.DOTALL))
    commands = [line.split("#")[0].strip() for line in blocks.splitlines() if line.startswith("make ")]
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    gated = ["make demo", "make test", "make cluster-up", "make cluster-test", "make cluster-down"]
    # A test starts the first as it is written (tests/integration/laptop).
    assert commands == ["make dev", *gated]
    assert set(gated) <= set(ci)


@pytest.mark.parametrize("lock", ["dev", "serving", "mlflow-server", "platform", "checkov"])
def test_locks_hold_hashes_and_no_addresses(lock: str) -> None:
    text = (ROOT / f"locks/{lock}.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^[a-z0-9][^\s=]*==", text, re.MULTILINE)
    assert len(pins) > 20
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text


def test_serving_holds_nothing_that_unpickles() -> None:
    text = (ROOT / "locks/serving.txt").read_text(encoding="utf-8")
    names = set(re.findall(r"^([a-z0-9][a-z0-9-]*)", text, re.MULTILINE))
    forbidden = {"mlflow", "mlflow-skinny", "scikit-learn", "pandas", "xgboost-cpu", "joblib", "cloudpickle"}
    assert {"onnxruntime", "fastapi"} <= names
    assert names & forbidden == set()


def test_the_table_of_exit_codes_is_the_one_of_the_code() -> None:
    table = [line for line in (errors.__doc__ or "").splitlines() if line.startswith("| ")]
    assert len(table) > 2
    assert "\n".join(table) in (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
