"""The edge's choices are components: who signs its certificate, and who may reach its load balancer."""

from pathlib import Path
from typing import Any

from plumbline.tree.render.build import Object, build
from plumbline.tree.values import read_values


def _replaced(tree: Path, file: str, old: str, new: str) -> list[Object]:
    path = tree / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return build(tree, str(Path(file).parent))


def test_another_issuer_is_another_component(tree: Path) -> None:
    """Of the same name, so that the certificate stays as it is."""
    file = "clusters/staging/gateway/kustomization.yaml"
    before = build(tree, "clusters/staging/gateway")
    after = _replaced(tree, file, "  - ../../../kustomize/gateway/components/private-ca\n",
                      "  - ../../../kustomize/gateway/components/acme\n")  # fmt: skip

    def certificate(objects: list[Object]) -> Object:
        return next(item for item in objects if item["metadata"]["name"] == "models-tls")

    assert certificate(after) == certificate(before)
    (issuer,) = [item for item in after if item["kind"] == "Issuer"]
    assert issuer["metadata"]["name"] == certificate(after)["spec"]["issuerRef"]["name"]
    assert issuer["spec"].keys() == {"acme"}


def test_an_authority_of_aws_is_a_component(tree: Path) -> None:
    """Both certificates are asked of it; its project lets Argo CD make the issuer, and bring what asks AWS."""
    text = """  - ../../../kustomize/gateway/components/aws-private-ca
patches:
  - target: {kind: AWSPCAIssuer}
    patch: |-
      - {op: replace, path: /spec/arn, value: "arn:aws:acm-pca:eu-west-3:1:certificate-authority/x"}
"""
    line = "  - ../../../kustomize/gateway/components/private-ca\n"
    after = _replaced(tree, "clusters/staging/gateway/kustomization.yaml", line, text)
    (issuer,) = [item for item in after if item["kind"].endswith("Issuer")]
    group, _, _ = issuer["apiVersion"].partition("/")
    certificates = [item for item in after if item["kind"] == "Certificate"]
    assert {item["metadata"]["name"] for item in certificates} == {"models-tls", "people-tls"}
    for item in certificates:
        assert item["spec"]["issuerRef"] == {"group": group, "kind": issuer["kind"], "name": issuer["metadata"]["name"]}
    assert issuer["spec"]["region"] == read_values(tree, "staging").region
    line = "  - ../../apps/components/cert-manager\n"
    platform = _replaced(
        tree, "clusters/staging/kustomization.yaml", line, f"{line}  - ../../apps/components/aws-private-ca\n"
    )
    (application,) = [item for item in platform if item["metadata"]["name"] == "aws-privateca-issuer"]
    projects = {item["metadata"]["name"]: item["spec"] for item in platform if item["kind"] == "AppProject"}
    assert application["spec"]["source"]["repoURL"] in projects["platform"]["sourceRepos"]
    assert {"group": group, "kind": "AWSPCAIssuer"} in projects["gateway"]["namespaceResourceWhitelist"]


def test_a_token_as_well_as_a_key_is_a_component(tree: Path) -> None:
    """An environment adds it and says the issuer; its project lets Argo CD make both objects."""
    added = """  - ../../../kustomize/gateway/components/sign-in
patches:
  - target: {kind: RequestAuthentication}
    patch: |-
      - {op: replace, path: /spec/jwtRules/0/issuer, value: "https://id.acme.example"}
"""
    path = tree / "clusters/staging/gateway/kustomization.yaml"
    path.write_text(path.read_text() + added)
    items = build(tree, "clusters/staging/gateway")
    found = {item["kind"]: item["spec"] for item in items if item["metadata"]["name"] == "callers"}
    (rule,) = found["RequestAuthentication"]["jwtRules"]
    assert rule["issuer"] == "https://id.acme.example"
    assert not rule["forwardOriginalToken"], "the servers would take it for a key"
    assert found["AuthorizationPolicy"]["selector"] == found["RequestAuthentication"]["selector"]
    (project,) = (
        item["spec"]
        for item in build(tree, "clusters/staging")
        if item["kind"] == "AppProject" and item["metadata"]["name"] == "gateway"
    )
    allowed = {(right["group"], right["kind"]) for right in project["namespaceResourceWhitelist"]}
    assert {("security.istio.io", "RequestAuthentication"), ("security.istio.io", "AuthorizationPolicy")} <= allowed


def test_the_load_balancer_is_inside_unless_a_component_says_otherwise(tree: Path) -> None:
    def scheme(objects: list[Object]) -> dict[str, Any]:
        (found,) = [item for item in objects if item["metadata"]["name"] == "istio-gateway"]
        annotations: dict[str, Any] = found["spec"]["source"]["helm"]["valuesObject"]["service"]["annotations"]
        return {key.rpartition("-")[2]: value for key, value in annotations.items()}

    inside = scheme(build(tree, "clusters/staging"))
    assert (inside["scheme"], inside["internal"]) == ("internal", "true")
    line = "  - ../../apps/components/istio\n"
    outside = scheme(
        _replaced(tree, "clusters/staging/kustomization.yaml", line, f"{line}  - ../../apps/components/istio/public\n")
    )
    assert outside["scheme"] == "internet-facing"
    assert "internal" not in outside
