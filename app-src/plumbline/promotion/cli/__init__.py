"""`plumbline promote`: register, judge, promote, approve, reject."""

from plumbline.core.commands import application
from plumbline.promotion.cli import gate, hold, keys, registry, release, state

app = application(__doc__ or "")
for topic in (keys, registry, gate, release, hold, state):
    app.add_typer(topic.app)  # without a name: its commands are those of `plumbline promote`
