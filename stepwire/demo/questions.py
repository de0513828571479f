"""The demo's questions, and which topics answer them."""

from importlib.resources import files
from typing import Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

_FILE: Final = "questions.yaml"


class Question(BaseModel):
    """A question; `questions.yaml` explains the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str = Field(min_length=1)
    evidence: tuple[str, ...] = Field(min_length=1)
    topics: tuple[str, ...] = Field(min_length=1)


def read_questions() -> list[Question]:
    """Returns the questions in the order in which they are asked."""
    text = files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    return TypeAdapter(list[Question]).validate_python(yaml.safe_load(text))
