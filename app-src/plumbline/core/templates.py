"""Jinja2 as all our pages are made: a missing value is an error, and a page shows anybody's words as text."""

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def templates(package: str) -> Environment:
    """The templates of a package, in its folder `templates`; those for HTML end with .html.j2 and are escaped."""
    return Environment(
        loader=PackageLoader(package),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=select_autoescape(["html.j2"]),
    )
