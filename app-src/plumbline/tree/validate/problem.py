"""What `plumbline tree validate` finds wrong."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that must be changed before the tree is merged."""

    where: str
    """File with line, or folder and object."""
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"
