"""`python -m promotion`."""

from promotion.cli import app

app()
