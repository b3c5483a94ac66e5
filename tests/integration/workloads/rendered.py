"""A container of a rendered workload, run as a process: its command, arguments and environment are the manifest's.

What differs is what the machine differs in: addresses, ports, and folders that a pod would mount.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import services
import yaml

from plumbline.tree.render.build import build

ROOT = Path(__file__).parents[3]
Object = dict[str, Any]


def secrets() -> dict[str, dict[str, str]]:
    """{Secret: {key: value}} as `scripts/bootstrap local` would make them, with values of this test."""
    declared = yaml.safe_load((ROOT / "clusters/local/secrets.yaml").read_text(encoding="utf-8"))
    return {
        item["name"]: {key: f"{item['name']}-{key}-of-this-test" for key in item.get("random", ())}
        | item.get("fixed", {})
        for item in declared
    }


@dataclass(frozen=True, slots=True)
class Command:
    """What to start."""

    arguments: list[str]
    environment: dict[str, str]

    def run(self) -> str:
        """What it prints; it must end well."""
        done = subprocess.run(
            self.arguments, env=os.environ | self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def running(self, log: Path, ready: Callable[[], bool]) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """The process, from when it is ready to the end of the block."""
        return services.process(self.arguments, environment=self.environment, ready=ready, log=log)


class Workload:
    """The rendered objects of one workload, and a folder that stands for the root of its pods."""

    def __init__(self, name: str, root: Path, values: Mapping[str, Mapping[str, str]]) -> None:
        self.objects = build(ROOT, f"clusters/local/workloads/{name}")
        self._root, self._secrets = root, values

    def get(self, kind: str, name: str) -> Object:
        """One object; a hash at the end of its name is left out."""
        pattern = re.compile(re.escape(name) + r"(-[0-9a-z]{10})?")
        return next(o for o in self.objects if o["kind"] == kind and pattern.fullmatch(o["metadata"]["name"]))

    def command(
        self, kind: str, name: str, here: Mapping[str, str], files: Mapping[str, str], *, container: int = 0
    ) -> Command:
        """How a container of an object starts.

        here: values of environment variables on this machine. files: {path in the pod: path here}.
        """
        pod = self.get(kind, name)["spec"]["template"]["spec"]
        return self._command(pod, pod["containers"][container], here, files)

    def init_command(self, kind: str, name: str) -> Command:
        """The same of the first init container."""
        pod = self.get(kind, name)["spec"]["template"]["spec"]
        return self._command(pod, pod["initContainers"][0], {}, {})

    def _command(self, pod: Object, container: Object, here: Mapping[str, str], files: Mapping[str, str]) -> Command:
        places = {**files, **self._mounted(pod, container)}
        environment = {**self._environment(container), **here}

        # A path at the beginning of a word; all at once, for a place here may itself begin with /tmp.
        path = re.compile(rf"(?<![\w/])({'|'.join(map(re.escape, places))})(?=/|$)")

        def local(text: str) -> str:
            text = re.sub(r"\$\((\w+)\)", lambda match: environment[match[1]], text)
            return path.sub(lambda match: places[match[1]], text)

        environment = {key: local(value) for key, value in environment.items()}
        arguments = [local(text) for text in (*container["command"], *container.get("args", ()))]
        # As the images do.
        environment["PATH"] = f"{Path(sys.executable).parent}:{ROOT / '.cache/bin'}:{os.environ['PATH']}"
        return Command(arguments, environment)

    def _environment(self, container: Object) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            if "secretRef" in source:
                found |= self._secrets[source["secretRef"]["name"]]
                continue
            found |= self.get("ConfigMap", re.sub(r"-[0-9a-z]{10}$", "", source["configMapRef"]["name"]))["data"]
        for item in container.get("env", ()):
            if "value" in item:
                found[item["name"]] = item["value"]
            else:
                reference = item["valueFrom"]["secretKeyRef"]
                found[item["name"]] = self._secrets[reference["name"]][reference["key"]]
        return found

    def _mounted(self, pod: Object, container: Object) -> dict[str, str]:
        """{mount path: the folder here}, with what ConfigMaps and Secrets put there."""
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        places = {}
        for mount in container.get("volumeMounts", ()):
            folder = self._root / mount["mountPath"].lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            places[mount["mountPath"]] = str(folder)
            for name, text in self._files(volumes[mount["name"]]).items():
                (folder / name).write_text(text)
        return places

    def _files(self, volume: Object) -> dict[str, str]:
        if "configMap" in volume:
            return dict(self.get("ConfigMap", re.sub(r"-[0-9a-z]{10}$", "", volume["configMap"]["name"]))["data"])
        sources = [source["secret"] for source in volume.get("projected", {}).get("sources", ())]
        return {
            item["path"]: self._secrets[source["name"]][item["key"]] for source in sources for item in source["items"]
        }
