"""A class that says one thing while the folder or a policy does another is a problem of whoever says otherwise."""

from pathlib import Path
from typing import Any

import pytest
import trees
import yaml

from plumbline.tree.render.environment import Environment
from plumbline.tree.validate.classes import classes
from plumbline.tree.values import Values

RULES = ("release.plumbline.dev", "replicas.plumbline.dev")


def said(root: Path, class_: str, rules: tuple[str, ...], approval: bool | None) -> list[str]:
    own: dict[str, Any] = {
        "name": "live",
        "class": class_,
        "repository": "https://git.example/x.git",
        "registry": "r.x",
    }
    objects = [{"kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}} for name in rules]
    policy = yaml.safe_load(sorted((trees.ROOT / "policies/promotion").glob("*.yaml"))[0].read_text())
    entry = {"lifecycle": "Production", "merge": "review", "approval": approval}
    policy["spec"]["environments"] = {"live" if approval is not None else "other": entry | {"approval": bool(approval)}}
    (root / "policies/promotion").mkdir(parents=True)
    (root / "policies/promotion/birds.yaml").write_text(yaml.safe_dump(policy | {"metadata": {"name": "birds"}}))
    tree = Environment("live", {"clusters/live/admission": objects}, [])
    return [str(problem) for problem in classes(root, tree, {"live": Values.model_validate(own)})]


@pytest.mark.parametrize(
    ("class_", "rules", "approval"),
    [("guarded", RULES, True), ("open", (), False), ("small", (), False), ("guarded", RULES, None)],
)
def test_a_class_that_is_kept_is_none(tmp_path: Path, class_: str, rules: tuple[str, ...], approval: bool) -> None:
    assert said(tmp_path, class_, rules, approval) == []


@pytest.mark.parametrize(
    ("class_", "rules", "approval", "reason"),
    [
        ("guarded", RULES[:1], True, "clusters/live/admission: its class is guarded; expected policies/admission/guar"),
        (
            "open",
            RULES,
            False,
            "clusters/live/admission: lists policies/admission/guarded, and environment.yaml says c",
        ),
        (
            "guarded",
            RULES,
            False,
            "policies/promotion/birds.yaml: approval: false for live, whose class is guarded; ex",
        ),
        (
            "small",
            (),
            True,
            "policies/promotion/birds.yaml: approval: true for live, whose class is small; expected fa",
        ),
    ],
)
def test_a_class_that_is_not_kept_is_one(
    tmp_path: Path, class_: str, rules: tuple[str, ...], approval: bool, reason: str
) -> None:
    (found,) = said(tmp_path, class_, rules, approval)
    assert found.startswith(reason)
