"""The rule that names versions."""

from dataclasses import replace

import pytest

from plumbline.core.names import SemVer
from plumbline.core.schema import ModelSchema
from plumbline.promotion.registry.version import Version
from plumbline.promotion.registry.versioning import Recipe, bump, interface_digest, number

OLD = Recipe(interface="i", schema="s", code="c", kind="k", parameters="p")
V = SemVer(1, 2, 3)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "v1.2.4"),
        ({"code": "other"}, "v1.3.0"),
        ({"kind": "other"}, "v1.3.0"),
        ({"parameters": "other"}, "v1.3.0"),
        ({"schema": "other"}, "v1.3.0"),
        ({"interface": "other", "schema": "other"}, "v2.0.0"),
        ({"interface": "other", "schema": "other", "code": "other"}, "v2.0.0"),
    ],
)
def test_bump(change: dict[str, str], expected: str) -> None:
    assert str(bump(V, OLD, replace(OLD, **change))) == expected


def schema(**changes: object) -> ModelSchema:
    fields = [{"name": "wind", "type": "number", "description": "d", "example": 1.0, "unit": "m/s"}]
    output = {"task": "binary", "name": "late", "description": "d", "labels": ["no", "yes"]}
    return ModelSchema.model_validate({"model": "toy", "fields": fields, "output": output} | changes)


def field(**changes: object) -> list[dict[str, object]]:
    return [{"name": "wind", "type": "number", "description": "d", "example": 1.0, "unit": "m/s"} | changes]


@pytest.mark.parametrize(
    ("other", "breaks"),
    [
        (schema(), False),
        (schema(fields=field(description="better")), False),
        (schema(fields=field(maximum=30.0)), False),
        (schema(fields=field(unit="km/h")), True),
        (schema(fields=field(required=False)), True),
        (schema(fields=field(name="gust")), True),
        (schema(fields=field(type="category", example="calm", vocabulary=["calm"], unit="m/s")), True),
        (schema(output={"task": "binary", "name": "late", "description": "d", "labels": ["yes", "no"]}), True),
        (schema(output={"task": "regression", "name": "late", "description": "d", "unit": "min"}), True),
    ],
)
def test_what_callers_see(other: ModelSchema, breaks: bool) -> None:
    assert (interface_digest(other) != interface_digest(schema())) is breaks


def test_numbers_are_reserved_for_what_has_not_finished() -> None:
    assert str(number([(None, OLD)])) == "v1.0.0"
    dead = [(SemVer(1, 0, 0), OLD), (None, replace(OLD, code="b"))]
    assert str(number(dead)) == "v1.1.0", "resumed, it gets what was its"
    assert str(number([*dead, (None, replace(OLD, code="b"))])) == "v1.1.1", "and nobody else does"


def test_no_history_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        number([])


def test_a_node_that_does_nothing_makes_no_other_recipe() -> None:
    """What bars a version made again is what it was made from, of which its graph is no part."""
    names = ("data.digest", "code.commit", "parameters.digest", "schema.digest", "model.kind")
    tags = {name: f"sha256:{name}" for name in names}

    def made_by(**other: str) -> str:
        return Version("flights", "1", "0" * 32, "source", tags | other, (), "").made_by

    assert made_by() == made_by(**{"model.kind": "Identity+TreeEnsembleClassifier"})
    assert all(made_by() != made_by(**{name: "another"}) for name in names[:4])
    assert made_by(**{"code.dirty": "true"}) == ""
