"""One folder per model; nothing outside a folder knows its name (docs/add-a-model.md)."""
