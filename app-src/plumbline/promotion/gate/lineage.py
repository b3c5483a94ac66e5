"""What bars a version besides its bytes: what it computes, its run, and the recipe that it was made by."""

from plumbline.core.documents import parse
from plumbline.promotion.delivery.documents import Barred
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.version import WEIGHTS, Version


def records(
    tree: Checkout, registry: Registry, version: Version, weights: str, *digests: str, recipe: bool = True
) -> list[Barred]:
    """Every record that is of these digests, or of what computes or was made the same; raises DocumentError for a
    record that can't be read, for it may be the one.

    `weights` are those of the bytes as they are now. A record keeps what the registry said when it was written; of one
    without, the registry is asked. Without `recipe`, another result of a barred recipe is no reason.
    """
    like = {version.digest, *digests, *_twins(registry, version, weights, recipe)}
    names = tree.names("policies/barred", f"{version.model}/*.yaml")
    records = [parse(tree.read(name) or "", Barred, name) for name in names]
    return [item for item in records if item.digest in like or _is_of(item, version, weights, recipe)]


def _is_of(record: Barred, version: Version, weights: str, recipe: bool) -> bool:
    lineage = record.lineage
    if lineage is None:
        return False
    made = recipe and version.made_by and lineage.recipe == version.made_by
    return bool(lineage.weights == weights or made or lineage.run in version.runs)


def _twins(registry: Registry, version: Version, weights: str, recipe: bool) -> set[str]:
    """Digests of versions that compute the same, come from the same run, or were made by the same recipe."""
    return {
        other.digest
        for other in registry.versions(version.model)
        if other.tags.get(WEIGHTS) == weights
        or version.run in other.runs
        or (recipe and version.made_by and other.made_by == version.made_by)
    }
