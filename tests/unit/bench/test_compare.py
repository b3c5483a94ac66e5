"""A lost ratio is named; what stands on the page is what the run's JSON says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from bench import compare, report
from bench.environments import LOCKS, version_of
from bench.load import Window
from bench.rounds import Series

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


def document(mine: float, peer: float = 0.5, processor: str = "A") -> dict[str, Any]:
    servers = {"plumbline": {"ratio": mine}, "slow peer": {"ratio": 0.1}, "peer": {"ratio": peer}}
    return {"machine": {"processor": processor}, "peers": ["slow peer", "peer"], "cases": {"1 row": servers}}


def test_a_loss_of_more_than_a_tenth_is_named_and_less_is_noise():
    committed = json.dumps(document(2.0))
    assert compare.losses(committed, document(1.81)) == []
    assert compare.losses(committed, document(3.0)) == []
    both = compare.losses(committed, document(1.79))
    assert both == [
        "1 row: plumbline / minimal FastAPI + ORT: 1.79, 2.00 committed",
        "1 row: plumbline / best peer: 3.58, 4.00 committed",
    ]


def test_a_peer_that_became_faster_is_a_loss_too():
    (line,) = compare.losses(json.dumps(document(2.0)), document(2.0, peer=0.6))
    assert line == "1 row: plumbline / best peer: 3.33, 4.00 committed"


def test_another_processor_is_said_and_not_called_a_loss():
    with pytest.raises(compare.OtherProcessorError, match="measured on A, this on B"):
        compare.losses(json.dumps(document(2.0)), document(1.0, processor="B"))


def test_a_case_that_is_new_or_gone_is_none():
    assert compare.losses(json.dumps(document(2.0)), document(0.1) | {"cases": {}}) == []


def test_ratios_are_those_of_the_same_round():
    def series(*rates: float) -> Series:
        made = Series()
        for rate in rates:
            made.add(Window(rate, 1.0, 0.001, 0.002, 0.003), cpu=0.5)
        return made

    # Twice as fast in each round, while the machine was busy in the second.
    summary = series(200, 20, 220).summary(series(100, 10, 110))
    assert (summary["ratio"], summary["rate"], summary["low"], summary["high"]) == (2.0, 200, 20, 220)
    assert summary["cpu_us"] == pytest.approx(0.5 / 200 * 1e6)


def test_the_page_says_what_its_json_says(tmp_path):
    report.write(json.loads((DOCS / "benchmarks.json").read_text()), tmp_path)
    assert (tmp_path / "benchmarks.md").read_text() == (DOCS / "benchmarks.md").read_text()
    assert (tmp_path / "benchmarks.png").stat().st_size > 10_000


@pytest.mark.parametrize("lock", sorted(path.stem for path in LOCKS.glob("*.in")))
def test_peers_are_pinned_by_hashes(lock):
    text = (LOCKS / f"{lock}.txt").read_text()
    pins = re.findall(r"^[a-z0-9][^\s=]*==", text, re.MULTILINE)
    assert text.count("--hash=sha256:") >= len(pins) > 20
    assert "://" not in text
    for name, version in re.findall(r"^([a-z]+)==(\S+)", (LOCKS / f"{lock}.in").read_text(), re.MULTILINE):
        assert version_of(LOCKS / f"{lock}.txt", name) == version
