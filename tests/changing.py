"""Files that change under a running server."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from plumbline.serving.server import Server


class Mounted:
    """A folder as Kubernetes mounts a Secret: the name is a link through a link that is swapped."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.path, self.count = folder, folder / name, 0
        folder.mkdir()
        self.path.symlink_to(Path("..data") / name)

    def put(self, content: bytes | None) -> Path:
        self.count += 1
        new = self.folder / f"..{self.count}"
        new.mkdir()
        if content is not None:
            (new / self.path.name).write_bytes(content)
        (self.folder / "..new").symlink_to(new.name)
        (self.folder / "..new").rename(self.folder / "..data")
        return self.path


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something."""
    for _ in range(1000):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about within ten seconds")


def in_effect(server: Server, name: str) -> float | None:
    """What the metric says of the file of a variable."""
    return server.metrics.registry.get_sample_value("serving_file_in_effect", {"file": name})
