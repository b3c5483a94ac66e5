"""The command `plumbline`: one subcommand a topic, each imported only when it is asked for.

The model server starts in under a second and its image holds a part of the package alone, so nothing of the other
topics is imported here.
"""

import sys
from importlib import import_module

MODULES = {
    "train": "training.cli",
    "promote": "promotion.cli",
    "serve": "serving.main",
    "monitor": "monitoring.cli",
    "score": "scoring.cli",
    "why": "why",
    "backup": "backup.cli",
    "tree": "tree.cli",
    "new-model": "scaffold.cli",
    "remove-model": "scaffold.cli",
}
WHOLE = {"new-model", "remove-model"}
"""Commands that have no subcommands."""
_USAGE = """Usage: plumbline COMMAND [ARGS]... (plumbline COMMAND --help)

  train     from data to an evaluated, converted model
  promote   registry, gate, the one writer of git; what is served: status, releases
  serve     the model server
  monitor   the prediction log: read-outs, experiments, drift
  score     files of rows, answered as the server would
  why       one answer: its release, data, run and approval, and the same answer again
  backup    databases and the artifacts that they name
  tree      the tree itself: rendered, compared, checked

  new-model, remove-model
            all files of a model, from a CSV file or an example

Exit codes: 0 done, 1 an accident (try again), 2 used wrongly, 10 refused by a rule, 11 inconclusive
"""


def main() -> None:
    """Run a subcommand; ends the process with an exit code of the one table (`plumbline.core.errors`)."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h"):
        sys.exit(print(_USAGE, end=""))
    if name not in MODULES:
        print(f"plumbline: no command {name!r}\n\n{_USAGE}", end="", file=sys.stderr)
        sys.exit(2)
    try:
        app = import_module(f"plumbline.{MODULES[name]}").app
        if name in WHOLE:
            app([name, *arguments], prog_name="plumbline")
        else:
            app(arguments, prog_name=f"plumbline {name}")
    except ModuleNotFoundError as error:
        extra = "serving" if name == "serve" else "platform"
        print(f"plumbline {name}: {error.name} is not here: install plumbline[{extra}]", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # a subcommand says so itself, but not while it is imported, and the server does not
        sys.exit(130)
