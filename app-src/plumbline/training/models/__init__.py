"""One folder per model, in the folder that TRAINING_MODELS names; nothing else knows a model's name.

The folders are their owners', not this package's: they are only imported as if they stood here (docs/add-a-model.md).
"""

import os

DEFAULT = "app-src/models"
"""Where this repository keeps them: below the folder that commands are run in."""

__path__ = [os.environ.get("TRAINING_MODELS", DEFAULT)]
