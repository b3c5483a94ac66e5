"""Dashboards: what is committed is what the sources say, and their queries are ones that can have an answer."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dashboards import FOLDER, Query, queries

ROOT = Path(__file__).parents[3]
PROMTOOL = ROOT / ".cache/bin/promtool"


def test_committed_dashboards_are_those_of_the_sources(tmp_path: Path) -> None:
    code = "import json, render; print(json.dumps(render.rendered()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=True)
    rendered = json.loads(done.stdout)
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert rendered == committed, "run `python kustomize/monitoring/dashboards/render.py`"
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert set(kustomization["configMapGenerator"][0]["files"]) == committed.keys()


def test_every_query_is_promql(tmp_path: Path) -> None:
    if not PROMTOOL.exists():
        pytest.fail("promtool is missing: run `make tools`")
    rules = [{"record": f"query:number_{i}", "expr": item.promql} for i, item in enumerate(queries())]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    done = subprocess.run(
        [PROMTOOL, "check", "rules", "--lint=none", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("query", queries(), ids=lambda item: f"{item.dashboard}-{item.panel}")
def test_a_series_of_ours_is_one_that_a_program_exports(query: Query) -> None:
    files = [
        path for package in ("serving", "monitoring") for path in (ROOT / "app-src/plumbline" / package).rglob("*.py")
    ]
    source = "".join(path.read_text() for path in files)
    # The names of quality.py have their prefix in one place.
    exported = set(re.findall(r'"((?:serving|monitoring)_\w+)"', source))
    exported |= {f"monitoring_{name}" for name in re.findall(r'\(\d, "(\w+)"', source)}
    asked = set(re.findall(r"(?<![:\w])((?:serving|monitoring)_\w+)", query.promql))
    unknown = {
        name
        for name in asked
        if name not in exported and re.sub(r"_(total|bucket|sum|count)$", "", name) not in exported
    }
    assert unknown == set()


def test_panels_do_not_cover_each_other() -> None:
    for path in FOLDER.glob("*.json"):
        cells: set[tuple[int, int]] = set()
        for panel in json.loads(path.read_text())["panels"]:
            place = panel["gridPos"]
            own = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & own, f"{path.name}: {panel['title']}"
            assert max(x for x, _ in own) < 24
            cells |= own
