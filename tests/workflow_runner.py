"""Runs a rendered Workflow on this machine: its containers as processes, its artifacts as folders.

It reads the same YAML that the controller does and knows as much of Argo as the graphs in argo/ use; anything else is
an error. A pod sees nothing but an empty /var/step with the inputs that its template names.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REFERENCE = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")
Scope = dict[str, str]


class StepFailed(RuntimeError):
    """A step failed in all its tries; the message holds what it said."""


@dataclass
class Outputs:
    """What a node hands on: texts, and the files of artifacts."""

    status: str = "Succeeded"
    parameters: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, Path] = field(default_factory=dict)


@dataclass
class Runner:
    """One run of a Workflow. Nodes that succeeded are kept: running it again takes up where it broke."""

    workflows: Path
    root: Path
    environment: dict[str, str]
    """In place of the ConfigMaps and Secrets of `envFrom`."""
    mounts: dict[str, Path] = field(default_factory=dict)
    """{mount path of a Secret or ConfigMap: folder here}."""
    answers: dict[str, dict[str, str]] = field(default_factory=dict)
    """What a person answers at a suspended node."""
    kill: set[str] = field(default_factory=set)
    """Templates whose first pod is killed soon after its start."""
    nodes: dict[str, Outputs] = field(default_factory=dict)
    pods: list[str] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, name: str, **arguments: str) -> Outputs:
        """Run a Workflow with its exit hook; raises StepFailed after the hook where a step failed."""
        spec = self._spec(name)
        values = {item["name"]: item.get("value") for item in spec.get("arguments", {}).get("parameters", [])}
        values |= {key.replace("_", "-"): value for key, value in arguments.items()}
        if missing := [key for key, value in values.items() if value is None]:
            raise ValueError(f"{name} asks for {missing}")
        scope = {f"workflow.parameters.{key}": str(value) for key, value in values.items()}
        scope |= {"workflow.name": f"{name}-1", "workflow.namespace": "workflows"}
        failures: list[dict[str, str]] = []
        try:
            given = {key: str(value) for key, value in values.items()}
            return self._node(name, name, spec["entrypoint"], given, {}, scope)
        except StepFailed as error:
            failures.append({"displayName": name, "message": str(error)[:200]})
            raise
        finally:
            status = "Failed" if failures else "Succeeded"
            scope |= {"workflow.status": status, "workflow.failures": json.dumps(json.dumps(failures))}
            hook = {"template": spec["onExit"]} if "onExit" in spec else spec.get("hooks", {}).get("exit")
            if hook:
                self._call(f"{name}.exit", name, hook, scope)

    def _spec(self, name: str) -> dict[str, Any]:
        if name not in self.specs:
            documents = yaml.safe_load_all((self.workflows / f"{name}.yaml").read_text())
            self.specs[name] = next(item["spec"] for item in documents if item["kind"] == "WorkflowTemplate")
        return self.specs[name]

    def _call(self, node: str, workflow: str, task: dict[str, Any], scope: Scope) -> Outputs:
        """Run what a task or a hook names, with its arguments resolved."""
        given = task.get("arguments", {})
        parameters = {item["name"]: resolve(item["value"], scope) for item in given.get("parameters", [])}
        artifacts: dict[str, Any] = {}
        for item in given.get("artifacts", []):
            artifacts[item["name"]] = (
                resolve(item["raw"]["data"], scope) if "raw" in item else Path(resolve(item["from"], scope))
            )
        other = task.get("templateRef", {"name": workflow, "template": task.get("template")})
        return self._node(node, other["name"], other["template"], parameters, artifacts, scope)

    def _node(
        self,
        node: str,
        workflow: str,
        template: str,
        parameters: dict[str, str],
        artifacts: dict[str, Any],
        scope: Scope,
    ) -> Outputs:
        if node in self.nodes:
            return self.nodes[node]
        found = next(item for item in self._spec(workflow)["templates"] if item["name"] == template)
        inputs = found.get("inputs", {})
        known = {item["name"]: self._known(item) for item in inputs.get("parameters", [])}
        filled = {key: parameters.get(key, value) for key, value in known.items()}
        wanted = {item["name"] for item in inputs.get("artifacts", [])}
        if None in filled.values() or wanted - artifacts.keys():
            raise ValueError(f"{node}: {template} is given {[*parameters, *artifacts]}, it takes {[*known, *wanted]}")
        inner = {key: value for key, value in scope.items() if key.startswith("workflow.")}
        inner |= {f"inputs.parameters.{key}": str(value) for key, value in filled.items()}
        inner |= {f"inputs.artifacts.{key}": str(value) for key, value in artifacts.items()}
        if "dag" in found:
            outputs = self._dag(node, workflow, found["dag"], inner)
        elif "suspend" in found:
            names = [item["name"] for item in found["outputs"]["parameters"]]
            outputs = Outputs(parameters={name: self.answers[template].get(name, str(known[name])) for name in names})
        else:
            outputs = self._pod(node, found, artifacts, inner)
        self.nodes[node] = outputs
        return outputs

    def _known(self, item: dict[str, Any]) -> str | None:
        """What an input is where nobody gives it: of a ConfigMap, that of the pods' environment."""
        if key := item.get("valueFrom", {}).get("configMapKeyRef"):
            return self.environment.get(key["key"])
        found: str | None = item.get("default", item.get("value"))
        return found

    def _dag(self, node: str, workflow: str, dag: dict[str, Any], scope: Scope) -> Outputs:
        done: dict[str, Outputs] = {}
        waiting = list(dag["tasks"])
        while waiting:
            task = next(item for item in waiting if needed(item) <= done.keys())
            waiting.remove(task)
            inner = scope | {
                f"tasks.{name}.outputs.{kind}.{key}": str(value)
                for name, outputs in done.items()
                for kind in ("parameters", "artifacts")
                for key, value in getattr(outputs, kind).items()
            }
            if not holds(resolve(task.get("when", "1 == 1"), inner)) or not depends(task, done):
                done[task["name"]] = Outputs("Skipped")
            else:
                done[task["name"]] = self._task(f"{node}.{task['name']}", workflow, task, inner)
        return Outputs()

    def _task(self, node: str, workflow: str, task: dict[str, Any], scope: Scope) -> Outputs:
        if "withParam" in task:
            items = json.loads(resolve(task["withParam"], scope))
        elif "withSequence" in task:
            items = [str(number) for number in range(int(resolve(task["withSequence"]["count"], scope)))]
        else:
            return self._call(node, workflow, task, scope)
        gathered: dict[str, list[Any]] = {}
        for number, item in enumerate(items):
            each = {f"item.{key}": value for key, value in item.items()} if isinstance(item, dict) else {"item": item}
            for key, value in self._call(f"{node}({number})", workflow, task, scope | each).parameters.items():
                gathered.setdefault(key, []).append(value)
        return Outputs(parameters={key: json.dumps(_as_json(values)) for key, values in gathered.items()})

    def _pod(self, node: str, template: dict[str, Any], artifacts: dict[str, Any], scope: Scope) -> Outputs:
        filled = json.loads(
            resolve(json.dumps(template), {key: json.dumps(value)[1:-1] for key, value in scope.items()})
        )
        retry = template["retryStrategy"]
        final = json.loads(_parts(r"asInt\(lastRetry\.exitCode\) not in (\[.*\])", retry["expression"])[1])
        for attempt in range(retry["limit"] + 1):
            code, place = self._try(f"{node}-{attempt}", filled, artifacts, killed=template["name"] in self.kill)
            self.kill.discard(template["name"])
            if code == 0:
                return self._outputs(node, filled, place)
            if code in final:
                break
        raise StepFailed(f"{node} ended with {code}: {self.said[f'{node}-{attempt}']}")

    def _try(self, pod: str, template: dict[str, Any], artifacts: dict[str, Any], *, killed: bool) -> tuple[int, Path]:
        self.pods.append(pod)
        place = self.root / pod
        (place / "work").mkdir(parents=True)
        for item in template.get("inputs", {}).get("artifacts", []):
            target, source = self._local(item["path"], place), artifacts[item["name"]]
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, str):
                target.write_text(source)
            else:
                (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
        container = template["container"]
        command = [
            sys.executable,
            *container["command"][1:],
            *(self._local_text(arg, place) for arg in container["args"]),
        ]
        # Where a value comes from a Secret, `environment` has it.
        plain = [item for item in container.get("env", []) if "value" in item]
        own = {item["name"]: self._local_text(item["value"], place) for item in plain}
        environment = {**os.environ, **self.environment, **own, "HOME": str(place)}
        running = subprocess.Popen(
            command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if killed:
            time.sleep(1)
            running.kill()
        self.said[pod] = running.communicate()[0]
        return running.returncode, place

    def _outputs(self, node: str, template: dict[str, Any], place: Path) -> Outputs:
        made = template.get("outputs", {})
        outputs = Outputs()
        for item in made.get("parameters", []):
            outputs.parameters[item["name"]] = self._local(item["valueFrom"]["path"], place).read_text()
        for item in made.get("artifacts", []):
            outputs.artifacts[item["name"]] = self._local(item["path"], place)
            assert outputs.artifacts[item["name"]].exists(), f"{node} left no {item['path']}"
        return outputs

    def _local(self, path: str, place: Path) -> Path:
        assert path.startswith("/var/step/"), f"{path}: only /var/step is writable"
        return place / path.removeprefix("/")

    def _local_text(self, text: str, place: Path) -> str:
        for mount, folder in ({"/var/step": place / "work"} | self.mounts).items():
            text = re.sub(rf"(?<![\w/]){mount}(?=/|$)", str(folder), text)
        return text


def resolve(text: str, scope: Scope) -> str:
    """Fill in references; raises KeyError for one that nobody gave, which the controller would refuse as well."""
    return REFERENCE.sub(lambda match: scope[match[1]], text)


def needed(task: dict[str, Any]) -> set[str]:
    """The tasks that have to have ended before."""
    named = re.findall(r"(?<![\w.-])[a-z][a-z-]*", task.get("depends", ""))
    return {*named, *task.get("dependencies", [])}


def depends(task: dict[str, Any], done: dict[str, Outputs]) -> bool:
    """Whether those ended as the task asks for; a skipped task lets those after it run."""
    terms = [term.strip().partition(".") for term in task.get("depends", "").split("||") if term]
    return not terms or any(done[name].status == status if status else True for name, _, status in terms)


def holds(condition: str) -> bool:
    """A `when` of equalities and inequalities."""
    parts = [_parts(r"(.*?) (==|!=) (.*)", part.strip()) for part in condition.split("&&")]
    return all((part[1] == part[3]) == (part[2] == "==") for part in parts)


def _as_json(values: list[str]) -> list[Any]:
    """As the controller gathers values: as objects where all of them are JSON objects, else as texts."""
    try:
        parsed = [json.loads(value) for value in values]
    except ValueError:
        return values
    return parsed if all(isinstance(item, dict | list) for item in parsed) else values


def _parts(pattern: str, text: str) -> re.Match[str]:
    match = re.fullmatch(pattern, text)
    assert match is not None, f"the runner does not know {text!r}"
    return match
