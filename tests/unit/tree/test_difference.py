"""What a change of objects is called: field by field, each object and each item of a list by its name."""

from typing import Any

from plumbline.tree.difference import Change, differences
from plumbline.tree.render.build import Object


def config(name: str, **data: Any) -> Object:
    return {"kind": "ConfigMap", "metadata": {"name": name, "namespace": "models"}, "data": data}


def test_a_field_that_changes_comes_or_goes() -> None:
    before = [config("settings", kept=1, changed=[1, 2], gone="x")]
    after = [config("settings", kept=1, changed=[1, 3], new="y")]
    assert differences(before, after) == [
        Change("models/ConfigMap/settings", "data.changed.1", 2, 3),
        Change("models/ConfigMap/settings", "data.gone", "x", "nothing"),
        Change("models/ConfigMap/settings", "data.new", "nothing", "y"),
    ]


def test_an_object_that_comes_or_goes_is_one_change() -> None:
    item, there = config("settings", a=1), "models/ConfigMap/settings"
    assert differences([], [item]) == [Change(there, "", "nothing", "there")]
    assert differences([item], []) == [Change(there, "", "there", "nothing")]


def test_an_item_in_front_of_a_list_of_names_changes_no_other() -> None:
    def pod(*names: str) -> Object:
        return config("pod", containers=[{"name": name, "image": name} for name in names])

    changed = {change.field for change in differences([pod("main")], [pod("proxy", "main")])}
    assert changed == {"data.containers.proxy.name", "data.containers.proxy.image"}


def test_a_generated_name_counts_without_its_hash() -> None:
    assert differences([config("release-2456789bcd", a=1)], [config("release-fghkmt2456", a=1)]) == []
