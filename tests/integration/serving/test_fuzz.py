"""F19: schemathesis against the running server, all phases. FUZZ_EXAMPLES=1000 for the full run."""

import os
import subprocess
import sys

import pytest

EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "25")
CONFIG = """
# What a schema can't say: that tensors have as many values as their shape, or rows as many as there are columns.
[[operations]]
include-path-regex = "infer$|batch$"
checks.positive_data_acceptance.expected-statuses = ["200", "422"]

# There is a store in this test, but what it answers is not the caller's doing.
[checks]
not_a_server_error.expected-statuses = ["2xx", "4xx"]
"""


@pytest.mark.timeout(7200 if "FUZZ_EXAMPLES" in os.environ else 300)
@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_no_5xx_and_no_schema_violation(serve, bundle_of, redis_url, tmp_path, kind):
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    with serve(bundle_of(kind), SERVING_REDIS_URL=redis_url) as server:
        server.until(lambda: server.metric("serving_redis_breaker_state") == 0)
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
        options = ["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", EXAMPLES, "--seed", "1"]
        done = subprocess.run(
            [*command, f"{server.url}/openapi.json", *options, "--no-color"],
            capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert server.metric("serving_requests_total", status="500") == 0
        assert server.metric("serving_requests_total", status="422") > 0
