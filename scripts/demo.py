"""`make demo`: nothing → a model that is trained, judged, promoted through git, served and measured.

One machine, no Docker and no cluster. The script only runs the platform's own commands in order and shows what they
say; a local bare repository stands for the forge, and the traffic split that Istio makes in a cluster is made here.
"""

import argparse
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import local
import pandas as pd
import services
import weeks
import yaml
from jinja2 import Environment, FileSystemLoader

from plumbline.core import programs
from plumbline.monitoring.experiment.policy import Experiment
from plumbline.monitoring.policy import read_policy

HERE, PLUMBLINE = local.HERE, local.PLUMBLINE
HOME = HERE / ".cache" / "demo"
MODEL, ENV = "flights", "local"
RELEASE = f"clusters/{ENV}/models/{MODEL}/release.yaml"
CANARY_SHARE = 0.2
REQUESTS = 3000


class DemoError(RuntimeError):
    """A step failed; the message says which and how it ended."""


@dataclass
class Demo:
    """The environment of the commands, and what they said for the page at the end."""

    environment: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    asked: str = ""
    """The id of the one prediction that is shown."""
    started: float = field(default_factory=time.monotonic)

    def tell(self, text: str) -> None:
        """One line of progress with the seconds since the start."""
        print(f"\033[1m[{time.monotonic() - self.started:4.0f} s] {text}\033[0m", flush=True)

    def run(self, title: str, *command: str | Path, expect: int = 0, show: bool = True) -> str:
        """Run a command of the platform; raises DemoError when it does not end with the exit code `expect`."""
        self.tell(f"{title}\n         $ {' '.join(map(str, [Path(command[0]).name, *command[1:]]))}")
        done = subprocess.run(
            list(map(str, command)),
            cwd=HERE,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said[title] = done.stdout
        if show or done.returncode != expect:
            print("\n".join(f"         {line}" for line in done.stdout.strip().splitlines()), flush=True)
        if done.returncode != expect:
            raise DemoError(f"{title!r} ended with {done.returncode}, expected {expect}: see its output above")
        return done.stdout

    def last(self, title: str, *command: str | Path) -> str:
        """Run a command; returns the last word of its last line, where the commands put what they made."""
        return self.run(title, *command, show=False).split()[-1]


def main() -> int:
    """Parse the arguments and run; Ctrl-C stops every process that was started."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="train on all 336,776 flights instead of a sample")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    arguments = parser.parse_args()
    demo = Demo()
    # Being told to stop cleans up like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            page = play(demo, stack, arguments.full)
            demo.tell(f"done; the page with cards, verdicts and results: {page.as_uri()}")
            if arguments.keep or sys.stdout.isatty():
                demo.tell("everything runs until Ctrl-C")
                while True:
                    time.sleep(3600)
    except KeyboardInterrupt:
        print("\nstopped; what was started is down again")
    except (DemoError, services.ServiceError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def play(demo: Demo, stack: ExitStack, full: bool) -> Path:
    """The story in order; returns the page."""
    demo.tell("starting PostgreSQL, Redis and MLflow on loopback, with a bare repository as the remote")
    demo.environment |= stack.enter_context(local.platform(HOME, fresh=True))
    origin, image = Path(demo.environment["PROMOTION_REPO"]), demo.environment["SERVER_IMAGE"]

    small, large = "0.01", "1.0" if full else "0.05"
    if not full:
        demo.tell("training on a sample of the flights, to be quick; FULL=1 takes all 336,776")
    first = release(demo, "the first model", "--sample", small, "--trials", "2")
    promote(demo, first, image)
    stable = stack.enter_context(serve(demo, origin, "stable"))
    ask_once(demo, stable)

    weak = release(demo, "a weak candidate, from 400 rows", "--sample", "0.002", "--trials", "1")
    demo.run(f"the gate refuses {weak}", PLUMBLINE, "promote", "check", *subject(weak), "--image", image, expect=10)

    second = release(demo, "a model from more data", "--sample", large, "--trials", "2")
    promote(demo, second, image)
    canary = stack.enter_context(serve(demo, origin, "canary"))
    links = {"MLflow": demo.environment["MLFLOW_TRACKING_URI"], "API of the stable release": f"{stable}/docs",
             "API of the canary": f"{canary}/docs"}  # fmt: skip

    send_traffic(demo, origin, stable, canary)
    measure(demo)
    demo.run("what changed in git", "git", "-C", origin, "log", "-p", "--format=%n%h %s%n%n%b", f"-{2}", "--", RELEASE)
    demo.run("the card", PLUMBLINE, "promote", "card", *subject(second)[:4], "--html", HOME / "card.html", show=False)
    for name, link in links.items():
        print(f"         {name}: {link}")
    return write_page(demo, links)


def subject(version: str) -> list[str]:
    """The options that name a version in an environment."""
    return ["--model", MODEL, "--version", version, "--env", ENV]


def release(demo: Demo, what: str, *options: str) -> str:
    """Train and register; returns the semantic version."""
    run = demo.last(f"train {what}", PLUMBLINE, "train", "run", "--model", MODEL, *options)
    return demo.last(f"register {what}", PLUMBLINE, "promote", "register", "--run", run)


def promote(demo: Demo, version: str, image: str) -> None:
    """One commit, if the gate says yes."""
    demo.run(f"promote {version}", PLUMBLINE, "promote", "run", *subject(version), "--image", image)


@contextmanager
def serve(demo: Demo, origin: Path, role: str) -> Iterator[str]:
    """Start the model server from what git names now; yields its URL when it is ready."""
    tree = HOME / role
    clone = ("git", "clone", "-q", "--branch=main", origin, tree)
    demo.run(f"the {role} server checks out the remote", *clone, show=False)
    # The port of the README for the first, another for the second, which finds it taken.
    port = services.port_near(8080)
    environment = demo.environment | {
        "SERVING_RELEASE": str(tree / RELEASE),
        "SERVING_ROLE": role,
        "SERVING_PORT": str(port),
        "SERVING_METRICS_PORT": str(services.free_port()),
    }
    url = f"http://127.0.0.1:{port}"
    python = HERE / ".venv-serving" / "bin" / "python"
    began = time.monotonic()
    with services.process(
        [python, "-m", "plumbline", "serve"],
        ready=lambda: _ready(url),
        log=HOME / f"{role}.log",
        environment=environment,
    ):
        demo.tell(f"the {role} server is ready after {time.monotonic() - began:.1f} s: {url}/docs")
        yield url


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def example_row(url: str) -> dict[str, Any]:
    """The row that the server's OpenAPI document shows to a caller."""
    operation = httpx.get(f"{url}/openapi.json").json()["paths"]["/v1/predict"]["post"]
    row: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["examples"]["example"]["value"]
    return dict(row["features"])


def ask_once(demo: Demo, url: str) -> None:
    """One prediction and one mistake, as a caller sees them."""
    row = example_row(url)
    for title, features in (("a prediction", row), ("a mistake", row | {"origin": 5})):
        answer = httpx.post(f"{url}/v1/predict", json={"features": features})
        demo.asked = answer.json().get("prediction_id", demo.asked)
        demo.said[title] = json.dumps(answer.json(), indent=2)
        demo.tell(f"{title}: {answer.status_code}\n{demo.said[title]}")


def holdout(demo: Demo, origin: Path) -> pd.DataFrame:
    """The rows that the served model was judged on, fetched from its run."""
    text = programs.git("show", f"main:{RELEASE}", cwd=origin).text
    run = {"run_id": yaml.safe_load(text)["spec"]["lineage"]["run"]}
    with httpx.Client(base_url=f"{demo.environment['MLFLOW_TRACKING_URI']}/api/2.0/", timeout=60) as client:
        info = client.get("mlflow/runs/get", params=run).raise_for_status().json()["run"]["info"]
        place = info["artifact_uri"].replace("mlflow-artifacts:/", "mlflow-artifacts/artifacts/")
        answer = client.get(f"{place}/evaluation/holdout.parquet").raise_for_status()
    file = HOME / "holdout.parquet"
    file.write_bytes(answer.content)
    return pd.read_parquet(file)


def send_traffic(demo: Demo, origin: Path, stable: str, canary: str) -> None:
    """Flights of the test window as requests, split by a hash of the caller as the mesh does; then the truth."""
    rows = holdout(demo, origin).sample(n=REQUESTS, random_state=7)
    demo.tell(f"sending {REQUESTS} predictions, {CANARY_SHARE:.0%} of the callers to the canary, and their feedback")
    columns = list(example_row(stable))
    began = time.monotonic()
    with httpx.Client() as client:
        for number, (_, row) in zip(itertools.count(), rows.iterrows(), strict=False):
            caller = f"caller-{number % 500}"
            in_canary = int(hashlib.sha256(caller.encode()).hexdigest(), 16) % 100 < CANARY_SHARE * 100
            base, arm = (canary, "canary") if in_canary else (stable, "stable")
            features = {name: plain(row[name]) for name in columns if not pd.isna(row[name])}
            answer = client.post(
                f"{base}/v1/predict", json={"features": features}, headers={"x-arm": arm, "x-subject": caller}
            ).raise_for_status()
            feedback = {"prediction_id": answer.json()["prediction_id"], "truth": row["truth"]}
            client.post(f"{base}/v1/feedback", json=feedback).raise_for_status()
    took = time.monotonic() - began
    demo.tell(f"{REQUESTS} predictions and as many labels in {took:.1f} s, one after the other")


def plain(value: Any) -> Any:
    """A number of NumPy as one of Python, a whole one as an integer."""
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def measure(demo: Demo) -> None:
    """From the stream to answers: arms, the stable release's drift from its own test, and the experiment's verdict."""
    monitoring = (PLUMBLINE, "monitor")
    demo.run("log predictions and feedback to PostgreSQL", *monitoring, "consume", "--until-empty")
    demo.run("how the releases do", *monitoring, "readout", "--model", MODEL)
    demo.run("why the first answer was given", PLUMBLINE, "why", demo.asked)
    run = yaml.safe_load((HOME / "stable" / RELEASE).read_text(encoding="utf-8"))["spec"]["lineage"]["run"]
    # What was answered in these minutes are flights of all months: no day of the reference is like it, a week may be.
    window = ("--hours", "168", "--out", HOME / "drift", "--exit-code")
    drift = (*monitoring, "drift", "--model", MODEL, "--run", run, *window)
    demo.run("drift of the stable release against its test window", *drift)
    later = dated(demo)
    later.run("log the same answers with the dates of weeks", *monitoring, "migrate")
    later.run("and store them", *monitoring, "consume", "--until-empty", show=False)
    policies = ("--model", MODEL, "--policies", HERE / "policies")
    later.run("what an experiment of that time needs", *monitoring, "experiment", "plan", *policies)
    later.run("the experiment's verdict", *monitoring, "experiment", *policies, "--exit-code")


def dated(demo: Demo) -> Demo:
    """The same demo with a log of its own, in which the answers of these minutes are dated over the policy's weeks."""
    policy = read_policy(HERE / f"policies/experiments/{MODEL}.yaml", Experiment, MODEL)
    days = 7 * policy.weeks[-1] + policy.labelDays + 1
    redis, database = (demo.environment[f"MONITORING_{name}_URL"] for name in ("REDIS", "DATABASE"))
    own = {
        "MONITORING_REDIS_URL": f"{redis.rpartition('/')[0]}/1",
        "MONITORING_DATABASE_URL": f"{database.rpartition('/')[0]}/weeks",
    }
    count = weeks.spread(redis, own["MONITORING_REDIS_URL"], days)
    demo.tell(f"an experiment is judged after whole weeks: {count} answers are dated over {days} days in a second log")
    return replace(demo, environment=demo.environment | own)


def write_page(demo: Demo, links: dict[str, str]) -> Path:
    """One page with what was said, the model card and the links."""
    page = HOME / "index.html"
    template = Environment(loader=FileSystemLoader(HERE / "scripts"), autoescape=True).get_template("demo.html.j2")
    page.write_text(template.render(said=demo.said, links=links, files=["card.html", "drift"]), encoding="utf-8")
    return page


if __name__ == "__main__":
    sys.exit(main())
