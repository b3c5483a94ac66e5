"""The edge's choices are components: who signs its certificate, and who may reach its load balancer."""

from pathlib import Path
from typing import Any

from plumbline.tree.render.build import Object, build


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
