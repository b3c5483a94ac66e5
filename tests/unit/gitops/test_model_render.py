"""What a model's folder renders to: one release.yaml is one ReplicaSet, one line of canary.yaml is one weight."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
KUSTOMIZE = ROOT / ".cache" / "bin" / "kustomize"
IMAGE = "ghcr.io/plumbline/model-server@sha256:" + "1" * 64
RELEASE = f"""\
apiVersion: plumbline.dev/v1
kind: Release
metadata:
  name: flights
  annotations:
    config.kubernetes.io/local-config: "true"
spec:
  version: v1.0.0
  image: {IMAGE}
  artifact:
    digest: sha256:{"2" * 64}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the tree in which flights has a release."""
    for folder in ("kustomize", "clusters"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    folder = tmp_path / "clusters/local/models/flights"
    (folder / "release.yaml").write_text(RELEASE)
    return folder


def _render(folder: Path) -> dict[str, dict[str, Any]]:
    """{Kind/name: object}."""
    if not KUSTOMIZE.exists():
        pytest.fail("kustomize is missing: run `make tools`")
    done = subprocess.run([KUSTOMIZE, "build", folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in yaml.safe_load_all(done.stdout)}


def test_the_release_reaches_the_pod_by_value_and_as_a_file(model: Path) -> None:
    rendered = _render(model)
    rollout = rendered["Rollout/flights-server"]["spec"]
    pod = rollout["template"]["spec"]
    assert pod["containers"][0]["image"] == IMAGE
    assert rollout["template"]["metadata"]["labels"]["app.kubernetes.io/version"] == "v1.0.0"
    mounted = next(volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "release")
    assert rendered[f"ConfigMap/{mounted}"]["data"] == {"release.yaml": RELEASE}
    assert not any(key.startswith(("Release/", "Canary/")) for key in rendered)


def test_any_change_of_the_release_is_another_pod_template(model: Path) -> None:
    before = _render(model)["Rollout/flights-server"]["spec"]["template"]
    (model / "release.yaml").write_text(RELEASE + "  threshold: 0.4\n")
    assert _render(model)["Rollout/flights-server"]["spec"]["template"] != before


def test_names_in_custom_resources_follow_the_prefix(model: Path) -> None:
    rendered = _render(model)
    canary = rendered["Rollout/flights-server"]["spec"]["strategy"]["canary"]
    named = {
        f"Service/{canary['stableService']}",
        f"Service/{canary['canaryService']}",
        f"VirtualService/{canary['trafficRouting']['istio']['virtualService']['name']}",
    }
    for step in canary["steps"]:
        named |= {f"AnalysisTemplate/{item['templateName']}" for item in step.get("analysis", {}).get("templates", [])}
    edge = rendered["VirtualService/flights-server"]["spec"]
    named |= {f"Gateway/{name}" for name in edge["gateways"]}
    named |= {f"Service/{route['destination']['host']}" for route in edge["http"][0]["route"]}
    assert len(named) == 5
    assert named <= rendered.keys()


def test_a_weight_is_one_line(model: Path) -> None:
    ladder = model / "canary.yaml"
    text = ladder.read_text()
    assert text.count("setWeight: 10\n") == 1
    ladder.write_text(text.replace("setWeight: 10\n", "setWeight: 20\n"))
    steps = _render(model)["Rollout/flights-server"]["spec"]["strategy"]["canary"]["steps"]
    assert [step["setWeight"] for step in steps if "setWeight" in step] == [20, 50, 100]


@pytest.mark.parametrize("environment", ["local", "staging", "production"])
def test_an_environment_syncs_its_own_folder(environment: str) -> None:
    rendered = _render(ROOT / "clusters" / environment)
    assert rendered["Application/platform"]["spec"]["source"]["path"] == f"clusters/{environment}"
    files = rendered["ApplicationSet/models"]["spec"]["generators"][0]["git"]["files"]
    assert files == [{"path": f"clusters/{environment}/models/*/release.yaml"}]
