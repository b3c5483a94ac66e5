"""What a policy may name of a model: its metrics, fields, slices, sections of its card."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from plumbline.core.encoding import OTHERS
from plumbline.core.metrics import names
from plumbline.core.metrics.names import Costs
from plumbline.core.schema import ModelSchema, Output, SchemaField

LENGTH, SIZE = "length", "size"
"""What drift compares of a text, in characters, and of a list, in members."""


@dataclass(frozen=True)
class Subject:
    """The model that a policy is about."""

    output: Output
    fields: Mapping[str, bool]
    """As drift compares them, and whether each is a number."""
    costs: Costs | None = None
    """What mistakes cost, where it says so."""
    declared: tuple[str, ...] = ()
    """Metrics with a limit in their name that its reports have."""
    slices: tuple[str, ...] | None = None
    """The columns that it is judged by; None where they are not known."""
    views: tuple[str, ...] = ()
    """What the online store knows for it."""
    sections: tuple[str, ...] | None = None
    """Of its card; None where they are not known."""

    def metric_fault(self, name: str) -> str:
        """Why its reports have no such metric; empty where they have it."""
        return names.fault(name, self.output, costs=self.costs is not None, declared=self.declared)

    def slice_fault(self, name: str) -> str:
        """Why it is not judged by such a column; empty where it is, or where nobody knows."""
        return unknown(name, self.slices, "slice", "the model's rows() gives no slice")

    def view_fault(self, name: str) -> str:
        """Why it has no such view; empty where it has."""
        return unknown(name, self.views, "view", "the model's schema has no view")

    def section_fault(self, name: str) -> str:
        """Why its card has no such section; empty where it has, or where nobody knows."""
        return unknown(name, self.sections, "section of the card", "card.yaml is empty")


def fields_of(schema: ModelSchema) -> dict[str, bool]:
    """The fields of a model as drift compares them, and whether each is a number.

    Of a timestamp its parts, of a text its length, of a list its size and its members; others as they are.
    """
    return {name: is_number for field in schema.fields for name, is_number in _compared(field).items()}


def _compared(field: SchemaField) -> dict[str, bool]:
    name = field.name
    if field.type == "timestamp":
        return dict.fromkeys([column.name for column in field.columns], True)
    if field.type == "text":
        return {f"{name}.{LENGTH}": True}
    if field.type == "categories":
        members = [f"{name}={member}" for member in field.vocabulary]
        return {f"{name}.{SIZE}": True, f"{name}.{OTHERS}": True, **dict.fromkeys(members, False)}
    return {name: field.type in ("number", "integer")}


def unknown(name: str, names: Collection[str] | None, what: str, otherwise: str = "") -> str:
    """That a name is none of those that exist, which are listed; empty where it is one, or nobody knows (None)."""
    if names is None or name in names:
        return ""
    expected = f"expected one of {', '.join(names)}" if names else otherwise
    return f"unknown {what} {name!r}; {expected}"
