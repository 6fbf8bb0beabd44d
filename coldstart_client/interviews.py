"""The requests and answers of interviews."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from coldstart_client.models import Id, Label, Recommendations, RecommendRequest

Reply = Literal["yes", "no", "unknown"]


class InterviewAnswer(BaseModel):
    """What a user answered to one question."""

    model_config = ConfigDict(extra="forbid")

    item_id: Id | None = Field(None, description="The item that was asked about.")
    attribute: Label | None = Field(None, description='Or the attribute, "column=value".')
    answer: Reply = Field(description='"unknown" is "don\'t know".')

    @model_validator(mode="after")
    def _about_one(self) -> InterviewAnswer:
        if (self.item_id is None) == (self.attribute is None):
            raise ValueError("an answer is about an item_id or about an attribute; give one of them")
        return self


class InterviewRequest(RecommendRequest):
    """The next question to a user, and their list after the answers so far; no answer is stored."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"description": "vintage enamel for a garden cafe", "k": 5},
        {"answers": [{"item_id": "22423", "answer": "yes"}, {"item_id": "21137", "answer": "unknown"}], "k": 5},
    ]})  # fmt: skip

    answers: Annotated[list[InterviewAnswer], Field(max_length=100)] = Field(
        default=[], description="All answers so far, in order."
    )
    about: Literal["items", "attributes", "any"] = Field("items", description="What may be asked about.")


class InterviewQuestion(BaseModel):
    """A question of which an answer is likely, and tells much of what the user wants."""

    item_id: str | None = Field(None, description="The item that is asked about.")
    attribute: str | None = Field(None, description='Or the attribute, "column=value".')
    description: str = Field(description="Of the item; of an attribute its value.")
    sentence: str = Field(description="The question in words.")
    answerable: float = Field(description="The estimated probability that the user knows what is asked about.")
    gain: float = Field(description="`answerable` times the share of the uncertainty that an answer removes.")


class Interview(Recommendations):
    """The next question, and the list after the answers so far."""

    question: InterviewQuestion | None = Field(description="null if nothing is left to ask.")
    answered: int = Field(description="The number of answers with yes or no of what the recommender knows.")
    learned: float = Field(description="The share of the uncertainty about the list that answers and history removed.")
    unknown_attributes: list[str] = Field(default=[], description="Of the answers, those that no item has.")
