"""Approvers and what they signed, for trees that tests make."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from plumbline.core.dsse import seal
from plumbline.core.release import Release
from plumbline.promotion.delivery.approval import Approval, Wanted
from plumbline.promotion.registry.signing import new_private_key, public_half


class Approver:
    """A person with a key."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.private = new_private_key()

    def entry(self, *environments: str, **more: Any) -> dict[str, Any]:
        """What approvers.yaml says of them."""
        return {
            "id": self.name,
            "keys": [public_half(self.private)],
            "environments": list(environments or ["production"]),
            **more,
        }

    def key(self, folder: Path) -> Path:
        """Their private key as a file."""
        path = folder / f"{random.getrandbits(64):x}.pem"
        path.write_text(self.private, encoding="ascii")
        return path

    def approval(self, environment: str, release: Release, /, **changes: Any) -> tuple[str, str]:
        """(path, text) of an approval of a release, as git holds it."""
        now = datetime.now(UTC).replace(microsecond=0)
        said = Wanted.of(environment, release).model_dump() | {
            "gate": release.spec.evidence.gate,
            "reason": "seen",
            "at": now - timedelta(days=1),
            "until": now + timedelta(days=1),
        }
        approval = Approval.model_validate(said | changes)
        envelope = seal(approval.statement(), self.private.encode())
        return approval.path, json.dumps(envelope, indent=2) + "\n"


def approvers(*entries: dict[str, Any], reviews: bool = False) -> str:
    """The text of approvers.yaml."""
    document = {"apiVersion": "plumbline.dev/v1", "kind": "Approvers", "reviews": reviews, "approvers": list(entries)}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
