"""What is made of log lines: few streams in Loki, and a request that is found again."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
ALLOY = ROOT / "apps/components/logging/alloy.yaml"


def _names(text: str, block: str) -> set[str]:
    found = re.search(rf"stage\.{block} {{ values = [{{\[](.*?)[}}\]] }}", text)
    assert found is not None
    return set(re.findall(r"\w+", found[1]))


def test_labels_do_not_grow_with_pods_or_requests() -> None:
    application = yaml.safe_load(ALLOY.read_text())
    text = application["spec"]["source"]["helm"]["valuesObject"]["alloy"]["configMap"]["content"]
    labels = set(re.findall(r'target_label\s+= "(\w+)"', text)) - _names(text, "label_drop")
    assert labels == {"namespace", "app"}
    assert _names(text, "structured_metadata") == {"level", "request_id", "pod"}


def test_logs_are_deleted_after_a_time() -> None:
    loki = yaml.safe_load((ROOT / "apps/components/logging/loki.yaml").read_text())
    values = loki["spec"]["source"]["helm"]["valuesObject"]["loki"]
    assert values["limits_config"]["retention_period"] == "720h"
    assert values["compactor"]["retention_enabled"] is True
