"""Base of the option models, and how their validation errors become sentences."""

from collections.abc import Callable
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import InputError, shown, unknown_name


class Options(BaseModel):
    """Frozen settings; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, **values: Any) -> Self:
        """Build from loose values.

        Raises:
            InputError: one sentence per offending field, with its value.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise InputError(describe(cls, error)) from None


def describe(model: type[BaseModel], error: ValidationError, *, spell: Callable[[str], str] = str) -> str:
    """Sentences for a pydantic error: field, value, what is allowed; ``spell`` writes the names of fields."""
    sentences = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        name = spell(name) if name else model.__name__
        if item["type"] == "extra_forbidden":
            sentences.append(unknown_name("option", name, model.model_fields))
            continue
        message = item["msg"].removeprefix("Value error, ")
        given = "" if item["type"] == "missing" else f" = {shown(item['input'])}"
        sentences.append(f"{name}{given}: {message[:1].lower()}{message[1:]}.".replace("..", "."))
    return " ".join(sentences)
