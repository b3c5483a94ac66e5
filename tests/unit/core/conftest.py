"""The model `iris` is a fixture here."""

from irises import iris as iris
