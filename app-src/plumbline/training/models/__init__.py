"""One folder per model, in the folder that TRAINING_MODELS names; nothing else knows a model's name.

The folders are their owners', not this package's: they are only imported as if they stood here (docs/add-a-model.md).
"""

import os
from pathlib import Path

DEFAULT = str(Path(__file__).parents[3] / "models")
"""Where this repository and its image keep them: beside the package. An installed wheel has none there."""

__path__ = [os.environ.get("TRAINING_MODELS", DEFAULT)]
