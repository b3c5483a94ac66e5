"""What starts often, or must be ready soon, imports nothing heavy on its way."""

import subprocess
import sys

import pytest

_GATE = "plumbline.promotion.gate"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        (
            "plumbline.promotion.delivery.reconcile",
            {"pandas", "mlflow", "sklearn", "matplotlib", _GATE},
        ),  # every minute
        ("plumbline.promotion.delivery.served", {_GATE}),  # who reads git judges nothing
        ("plumbline.serving.http.app", {"pandas", "mlflow", "sklearn", "onnx", "boto3"}),
        ("plumbline.monitoring.cli", {"pandas", "mlflow", "evidently"}),
        ("plumbline.promotion.cli", {"pandas", "mlflow", "sklearn", "matplotlib", "kubernetes", "scipy.stats", _GATE}),
    ],
)
def test_a_start_imports_nothing_heavy(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
