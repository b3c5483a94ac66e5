"""What a model's folder renders to: one release.yaml is one ReplicaSet, one line of canary.yaml is one weight."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from trees import ladder

from plumbline.monitoring.experiment.policy import Experiment
from plumbline.monitoring.policy import read_policy
from plumbline.serving.main import KEEP_ALIVE_SECONDS
from plumbline.tree.render.build import build, complete, environments
from plumbline.tree.values import read_values

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = environments(ROOT)
OF_FLIGHTS = "../../../../policies/experiments/flights"
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
  evidence:
    gate: sha256:{"3" * 64}
    approvedBy: ada
"""


@pytest.fixture
def model(tree: Path) -> Path:
    """A copy of the tree in which flights has a release and three rungs."""
    model = tree / "clusters/local/models/flights"
    (model / "release.yaml").write_text(RELEASE)
    ladder(model / "canary.yaml", 10, 50, 100)
    return model


def _render(folder: Path) -> dict[str, dict[str, Any]]:
    """{Kind/name: object}."""
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in build(folder, ".")}


def test_the_release_reaches_the_pod_by_value_and_as_a_file(model: Path) -> None:
    rendered = _render(model)
    rollout = rendered["Rollout/flights-server"]["spec"]
    pod = rollout["template"]["spec"]
    assert pod["containers"][0]["image"] == IMAGE
    assert rollout["template"]["metadata"]["labels"]["app.kubernetes.io/version"] == "v1.0.0"
    mounted = next(volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "release")
    assert rendered[f"ConfigMap/{mounted}"]["data"] == {"release.yaml": RELEASE}
    assert not any(key.startswith(("Release/", "Canary/")) for key in rendered)


@pytest.mark.parametrize("text", ["", "4711", "null", "true", "1e3", "2020-01-01", "Bö \\ 'Q': #1"])
def test_a_text_of_the_release_stays_a_text(model: Path, text: str) -> None:
    """Kustomize writes what it replaces without quotes, unless the base has a text in its place."""
    (model / "release.yaml").write_text(RELEASE.replace("approvedBy: ada", f"approvedBy: {json.dumps(text)}"))
    template = _render(model)["Rollout/flights-server"]["spec"]["template"]
    assert template["metadata"]["annotations"]["plumbline.dev/approved-by"] == text


@pytest.mark.parametrize("name", ["null", "true", "on"])
def test_a_model_may_be_named_like_a_word_of_yaml(model: Path, name: str) -> None:
    new = model.with_name(name)
    shutil.copytree(model, new)
    for path in new.iterdir():
        path.write_text(path.read_text().replace("name: flights", f'name: "{name}"').replace("flights-", f"{name}-"))
    rendered = _render(new)
    for item in rendered.values():
        if item["kind"] in ("Service", "NetworkPolicy", "PodDisruptionBudget", "Rollout"):
            selector = item["spec"].get("selector") or item["spec"]["podSelector"]
            assert selector.get("matchLabels", selector)["plumbline.dev/model"] == name


def test_any_change_of_the_release_is_another_pod_template(model: Path) -> None:
    before = _render(model)["Rollout/flights-server"]["spec"]["template"]
    (model / "release.yaml").write_text(RELEASE + "  threshold: 0.4\n")
    assert _render(model)["Rollout/flights-server"]["spec"]["template"] != before


def test_what_stable_mounts_is_not_pruned_when_git_names_the_next_release(model: Path) -> None:
    found = [item for key, item in _render(model).items() if key.startswith("ConfigMap/")]
    assert len(found) == 3
    for item in found:
        annotations = item["metadata"]["annotations"]
        assert annotations["argocd.argoproj.io/sync-options"] == "Prune=false"
        assert annotations["argocd.argoproj.io/compare-options"] == "IgnoreExtraneous"


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
    for key, item in rendered.items():
        if key.startswith("VirtualService/"):
            named |= {f"Gateway/{name}" for name in item["spec"].get("gateways", [])}
            for route in item["spec"]["http"]:
                named |= {f"Service/{way['destination']['host']}" for way in route.get("route", [])}
                named |= {f"VirtualService/{route['delegate']['name']}"} if "delegate" in route else set()
        if key.startswith("AnalysisTemplate/"):
            named |= {f"AnalysisTemplate/{inner['templateName']}" for inner in item["spec"].get("templates", [])}
        if key.startswith("DestinationRule/"):
            named.add(f"Service/{item['spec']['host']}")
    assert len(named) == 12
    assert named <= rendered.keys()


def test_what_rollouts_writes_is_all_that_argo_cd_ignores(model: Path) -> None:
    """Argo CD ignores a list as a whole: the routes with people's limits may not stand in it."""
    rendered = _render(model)
    (ignored,) = (
        item["name"].replace("{{ .path.basename }}", "flights")
        for item in _render(ROOT / "clusters/local")["ApplicationSet/models"]["spec"]["template"]["spec"][
            "ignoreDifferences"
        ]
        if item["kind"] == "VirtualService"
    )
    managed = rendered["Rollout/flights-server"]["spec"]["strategy"]["canary"]["trafficRouting"]["istio"]
    assert managed["virtualService"] == {"name": ignored, "routes": ["shares"]}
    (route,) = rendered[f"VirtualService/{ignored}"]["spec"]["http"]
    assert route.keys() == {"name", "route"}


def test_the_gateway_lets_go_of_an_idle_connection_before_the_server_does(model: Path) -> None:
    """Else a request now and then is sent into a connection that the server is closing, and is answered 503."""
    rules = [item for key, item in _render(model).items() if key.startswith("DestinationRule/")]
    assert len(rules) == 2
    for rule in rules:
        idle = rule["spec"]["trafficPolicy"]["connectionPool"]["http"]["idleTimeout"]
        assert 2 * int(idle.removesuffix("s")) < KEEP_ALIVE_SECONDS


@pytest.mark.parametrize("environment", [name for name in ENVIRONMENTS if read_values(ROOT, name).domain])
def test_the_gateway_speaks_tls_by_a_certificate_of_the_models_names(tree: Path, environment: str) -> None:
    with complete(tree, environment) as whole:
        found = {item["kind"]: item.get("spec", {}) for item in build(whole, f"clusters/{environment}/models/flights")}
        edge = build(whole, f"clusters/{environment}/gateway")
    servers = found["Gateway"]["servers"]
    plain, secure = servers
    assert plain["tls"] == {"httpsRedirect": True}
    assert secure["tls"]["minProtocolVersion"] == "TLSV1_2"
    (certificate,) = (
        item["spec"]
        for item in edge
        if item["kind"] == "Certificate" and item["spec"]["secretName"] == secure["tls"]["credentialName"]
    )
    names = {name for server in servers for name in server["hosts"]}
    (host,) = names
    assert [f"*.{host.partition('.')[2]}"] == certificate["dnsNames"]
    assert host.startswith("flights.")
    assert host.rpartition(".models.")[2] != "internal", "the environment's own domain"
    issuers = {item["metadata"]["name"] for item in edge if item["kind"] == certificate["issuerRef"]["kind"]}
    assert certificate["issuerRef"]["name"] in issuers


def test_the_hosts_of_gateway_and_routes_are_one(model: Path) -> None:
    for environment in ENVIRONMENTS:
        with complete(model.parents[3], environment) as whole:
            objects = build(whole, f"clusters/{environment}/models/flights")
        (gateway,) = (item["spec"] for item in objects if item["kind"] == "Gateway")
        (routes,) = (item["spec"] for item in objects if item["kind"] == "VirtualService" and "hosts" in item["spec"])
        assert all(server["hosts"] == routes["hosts"] for server in gateway["servers"])


def test_the_api_alone_is_reached_from_outside(model: Path) -> None:
    """By any of the routes, whatever else a request says."""
    routes = _render(model)["VirtualService/flights-server"]["spec"]["http"]
    assert len(routes) == 3
    for route in routes:
        assert route["match"]
        for match in route["match"]:
            (path,) = match["uri"].values()
            assert path in ("/v1/", "/v2/", "/v2")
    assert {path for route in routes[-1:] for match in route["match"] for path in match["uri"].values()} == {
        "/v1/", "/v2/", "/v2",
    }  # fmt: skip


def test_a_retry_never_makes_a_second_prediction(model: Path) -> None:
    routes = _render(model)["VirtualService/flights-server"]["spec"]["http"]
    assert routes
    for route in routes:
        before_any_model = {"connect-failure", "refused-stream", "reset-before-request"}
        assert set(route["retries"]["retryOn"].split(",")) <= before_any_model
        assert route["timeout"] == "5s"


def test_a_weight_is_one_line(model: Path) -> None:
    file = model / "canary.yaml"
    text = file.read_text()
    assert text.count("setWeight: 10\n") == 1
    file.write_text(text.replace("setWeight: 10\n", "setWeight: 20\n"))
    steps = _render(model)["Rollout/flights-server"]["spec"]["strategy"]["canary"]["steps"]
    assert [step["setWeight"] for step in steps if "setWeight" in step] == [20, 50, 100]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_syncs_its_own_folder(environment: str) -> None:
    rendered = _render(ROOT / "clusters" / environment)
    assert rendered["Application/platform"]["spec"]["source"]["path"] == f"clusters/{environment}"
    for name in ("models/*/release", "workloads/*/kustomization"):
        generator = rendered[f"ApplicationSet/{name.split('/')[0]}"]["spec"]["generators"][0]["git"]
        assert generator["files"] == [{"path": f"clusters/{environment}/{name}.yaml"}]


def test_the_autoscaler_asks_for_this_model_and_never_takes_pods_away_blindly(model: Path) -> None:
    rendered = _render(model)
    scaled = rendered["ScaledObject/flights-server"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == "flights-server"
    assert "fallback" not in scaled
    cpu, *asked = scaled["triggers"]
    assert (cpu["type"], cpu["metricType"], cpu["metadata"]["value"]) == ("cpu", "Utilization", "70")
    assert [trigger["name"] for trigger in asked] == ["latency", "queue"]
    for trigger in asked:
        assert '{model="flights"' in trigger["metadata"]["query"]
        assert trigger["metadata"]["ignoreNullValues"] == "false"


def test_the_server_has_time_to_drain(model: Path) -> None:
    rendered = _render(model)
    (settings,) = (item["data"] for key, item in rendered.items() if key.startswith("ConfigMap/flights-settings"))
    seconds = float(settings["SERVING_DRAIN_SECONDS"]) + float(settings["SERVING_SHUTDOWN_SECONDS"])
    pod = rendered["Rollout/flights-server"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= seconds + 2 * 3  # its tasks, and then its log


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_variable_of_the_container_has_a_source(tree: Path, environment: str) -> None:
    with complete(tree, environment) as whole:
        objects = build(whole, f"clusters/{environment}/models/flights")
        given = build(whole, f"clusters/{environment}/workloads/models")
    names = {f"{item['kind']}/{item['metadata']['name']}" for item in [*objects, *given]}
    in_cloud = bool(read_values(tree, environment).buckets)
    (pod,) = (item["spec"]["template"]["spec"] for item in objects if item["kind"] == "Rollout")
    for source in pod["containers"][0]["envFrom"]:
        if reference := source.get("configMapRef"):
            assert f"ConfigMap/{reference['name']}" in names
        # Locally scripts/bootstrap makes them; in AWS the account has a role for releases.
        elif in_cloud and source["secretRef"]["name"] != "releases":
            assert f"ExternalSecret/{source['secretRef']['name']}" in names
    secrets = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
    assert {"public-key", "gateway-key"} <= set(secrets)
    assert f"ServiceAccount/{pod['serviceAccountName']}" in names
    for secret in secrets if in_cloud else ():
        assert f"ExternalSecret/{secret}" in names


def _with(model: Path, component: str) -> dict[str, Any]:
    """The Rollout's spec with a component of the model server included."""
    file = model / "kustomization.yaml"
    inserted = f"  - ../../model-server\n  - ../../../../kustomize/model-server/components/{component}\n"
    file.write_text(file.read_text().replace("  - ../../model-server\n", inserted))
    spec: dict[str, Any] = _render(model)["Rollout/flights-server"]["spec"]
    return spec


def test_a_gpu_is_a_component(model: Path) -> None:
    pod = _with(model, "gpu")["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_api_keys_are_a_component(model: Path) -> None:
    servers = model.parents[1] / "model-server/kustomization.yaml"
    listed = "  - ../../../kustomize/model-server/components/api-keys\n"
    servers.write_text(servers.read_text().replace(listed, ""))
    pod = _with(model, "api-keys")["template"]["spec"]
    (container,) = pod["containers"]
    (file,) = (item["value"] for item in container["env"] if item["name"] == "SERVING_API_KEYS_FILE")
    (mount,) = (item for item in container["volumeMounts"] if item["name"] == "api-keys")
    assert file.startswith(f"{mount['mountPath']}/")
    # Neither optional, so that without the Secret no pod starts, nor of some items, which admission refuses.
    assert {"name": "api-keys", "secret": {"secretName": "api-keys"}} in pod["volumes"]


@pytest.mark.parametrize(
    ("component", "route", "steps"),
    [
        ("shadow", "setMirrorRoute", ["setCanaryScale", "setMirrorRoute", "analysis", "setMirrorRoute"]),
        ("experiment", "setHeaderRoute", ["setCanaryScale", "setHeaderRoute", *["analysis"] * 2, "setHeaderRoute"]),
    ],
)
def test_a_managed_route_is_declared_judged_and_taken_away(
    model: Path, component: str, route: str, steps: list[str]
) -> None:
    canary = _with(model, component)["strategy"]["canary"]
    kinds = [next(iter(step)) for step in canary["steps"]]
    assert kinds == [*steps, "setCanaryScale", *["setWeight", "analysis"] * 3]
    first, last = (step[route] for step in canary["steps"] if route in step)
    assert {"name": first["name"]} == last
    assert last in canary["trafficRouting"]["managedRoutes"]
    assert first["match"]
    asked, usual = (canary["steps"][place]["analysis"] for place in (2, len(steps) + 2))
    # What a shadow answers is in no log that could be replayed.
    unlogged = [{"name": "replayed-rows", "value": "0"}] if component == "shadow" else []
    assert asked == usual | {"args": [*usual["args"], *unlogged]}


def test_an_experiment_has_the_callers_of_its_policy_and_ends_by_its_verdict(model: Path) -> None:
    tree = model.parents[3]
    policy = read_policy(tree / "policies/experiments/flights.yaml", Experiment, "flights")
    path = model / "kustomization.yaml"
    path.write_text(path.read_text().replace("  - ../../model-server\n", f"  - ../../model-server\n  - {OF_FLIGHTS}\n"))
    rendered = _render(model)
    steps = rendered["Rollout/flights-server"]["spec"]["strategy"]["canary"]["steps"]
    assert steps[0] == {"setCanaryScale": {"weight": round(policy.share * 100)}}
    (match,) = steps[1]["setHeaderRoute"]["match"]
    taken = {f"{n:02d}" for n in range(100) if re.fullmatch(match["headerValue"]["regex"], f"{n:02d}")}
    assert taken == set(policy.buckets)
    asked = steps[3]["analysis"]
    assert asked["templates"] == [{"templateName": "flights-experiment"}]
    assert {arg["name"] for arg in asked["args"]} == {"model", "version"}
    (metric,) = rendered["AnalysisTemplate/flights-experiment"]["spec"]["metrics"]
    assert metric["successCondition"].endswith("== 1")
    assert metric["failureCondition"].endswith("== -1")


def test_only_prometheus_reaches_the_metrics_and_only_the_gateway_the_answers(model: Path) -> None:
    rendered = _render(model)
    (container,) = rendered["Rollout/flights-server"]["spec"]["template"]["spec"]["containers"]
    (settings,) = (item["data"] for key, item in rendered.items() if key.startswith("ConfigMap/flights-settings"))
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    assert ports == {"http": settings["SERVING_PORT"], "metrics": settings["SERVING_METRICS_PORT"]}
    (policy,) = (item["spec"] for key, item in rendered.items() if key.startswith("NetworkPolicy/"))
    let_in = {
        port["port"]: peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for rule in policy["ingress"]
        for peer in rule["from"]
        for port in rule["ports"]
    }
    assert let_in == {"http": "istio-system", "metrics": "monitoring"}
    monitor = yaml.safe_load((ROOT / "kustomize/monitoring/monitors/model-servers.yaml").read_text())
    assert [item["port"] for item in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]
