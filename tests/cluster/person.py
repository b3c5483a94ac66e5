"""Changes the platform the only way there is: a commit that is pushed."""

from dataclasses import dataclass
from pathlib import Path

from harness.repositories import OURS, git
from servers import Server

_RELEASE = """\
apiVersion: plumbline.dev/v1
kind: Release
metadata:
  name: {model}
  annotations:
    config.kubernetes.io/local-config: "true"
spec:
  version: {version}
  image: {server.image}
  artifact:
    uri: {server.uri}
    digest: {server.digest}
    schemaDigest: {server.schema_digest}
  threshold: 0.4
  lineage:
    registryVersion: "1"
    run: "{run}"
    code: "{code}"
    data: sha256:{hex}
  evidence:
    gate: sha256:{hex}
"""


@dataclass(frozen=True, slots=True)
class Person:
    """A clone of the repository that Argo CD watches."""

    folder: Path

    @classmethod
    def clone(cls, folder: Path) -> "Person":
        """Clone main."""
        git(folder.parent, "clone", "--quiet", str(OURS), str(folder))
        git(folder, "config", "user.name", "A Person")
        git(folder, "config", "user.email", "person@plumbline.dev")
        return cls(folder)

    def release(self, model: str, version: str, server: Server) -> str:
        """Commit a release.yaml as promotion would: the commit."""
        path = self.folder / "clusters/local/models" / model / "release.yaml"
        filled = _RELEASE.format(model=model, version=version, server=server, hex="0" * 64, run="0" * 32, code="0" * 40)
        path.write_text(filled)
        git(self.folder, "add", "--all")
        return self._push("commit", "--quiet", "--message", f"{model}(local): {version}")

    def revert(self) -> str:
        """Take the last commit back: the commit."""
        return self._push("revert", "--no-edit", "HEAD")

    def _push(self, *commit: str) -> str:
        git(self.folder, *commit)
        git(self.folder, "push", "--quiet", "origin", "main")
        return git(self.folder, "rev-parse", "HEAD").strip()
