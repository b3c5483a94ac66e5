"""Settings from the environment: what is wrong with them is a person's mistake, and said as one."""

from typing import Any, TypeVar, get_args

from pydantic import AnyUrl, BaseModel, SecretStr, ValidationError

from plumbline.core.errors import Misuse

Shape = TypeVar("Shape", bound=BaseModel)


def load(shape: type[Shape], **options: Any) -> Shape:
    """Settings of these options and, for a class of pydantic-settings, of the environment.

    Raises Misuse with a line for each that is missing or wrong: the option or the environment variable, what was
    expected, and what was got. A URL may hold a password, so that neither it nor a secret is shown.
    """
    try:
        return shape(**options)
    except ValidationError as error:
        lines = [_line(shape, str(item["loc"][0]), item, options) for item in error.errors(include_url=False)]
    raise Misuse("\n".join(lines))  # outside the handler: the error of pydantic shows every value


def _line(shape: type[BaseModel], name: str, item: Any, options: dict[str, Any]) -> str:
    field = shape.model_fields.get(name)
    hidden = field is None or any(
        isinstance(kind, type) and issubclass(kind, AnyUrl | SecretStr)
        for kind in (field.annotation, *get_args(field.annotation))
    )
    got = "it is not set" if item["type"] == "missing" else "" if hidden else f"got {item['input']!r}"
    # An alias is the variable's whole name.
    variable = name if name.isupper() else str(shape.model_config.get("env_prefix", "")) + name.upper()
    where = f"--{name.replace('_', '-')}" if name in options else variable
    return f"{where}: {item['msg']}{got and '; '}{got}"
