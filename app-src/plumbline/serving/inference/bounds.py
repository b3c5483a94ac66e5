"""What fits a model's float32 input, whoever reads the request."""

from plumbline.core.schema import SchemaField

FLOAT32_MAX = 3.4028234663852886e38
"""A larger number would become an infinity."""
EXACT_INTEGER = 2**53
"""What JSON numbers carry without loss (RFC 8259, section 6)."""
MAX_TEXT = 256


def bounds(field: SchemaField) -> tuple[float, float]:
    """The lowest and the highest value of a number or an integer."""
    limit = EXACT_INTEGER if field.type == "integer" else FLOAT32_MAX
    return (
        -limit if field.minimum is None else field.minimum,
        limit if field.maximum is None else field.maximum,
    )
