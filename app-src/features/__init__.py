"""Features defined once: a model's schema, the encoding that training and serving share, and the online store."""

from features.schema import ModelSchema, Output, SchemaField, View

__all__ = ["ModelSchema", "Output", "SchemaField", "View"]
