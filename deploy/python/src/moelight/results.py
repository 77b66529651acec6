"""Answers."""

from __future__ import annotations

import dataclasses
from typing import List, Optional, Sequence

from . import errors
from .v1 import batch_job_pb2, types_pb2

_REASONS = {types_pb2.FINISH_REASON_STOP: "stop", types_pb2.FINISH_REASON_LENGTH: "length",
            types_pb2.FINISH_REASON_CANCELLED: "cancelled"}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the model generated for one prompt: one choice, or n of them."""

    choices: Sequence[types_pb2.Choice]
    prompt_tokens: int
    completion_tokens: int  # of all choices

    @property
    def text(self) -> str:
        """Of the first choice."""
        return self.choices[0].text

    @property
    def texts(self) -> List[str]:
        return [choice.text for choice in self.choices]

    @property
    def finish_reason(self) -> str:
        """Of the first choice: "stop", "length" or "cancelled"."""
        return _REASONS.get(self.choices[0].finish_reason, "")


@dataclasses.dataclass(frozen=True)
class Result:
    """The one result of a row: an answer, or why there is none."""

    row: int        # its place among what was submitted, from 0
    custom_id: str  # as given; empty if none was
    answer: Optional[Answer]
    error: Optional[errors.RowError]

    @property
    def ok(self) -> bool:
        return self.answer is not None

    @property
    def text(self) -> str:
        """Of the first choice. Raises the row's error if it has no answer."""
        if self.answer is None:
            assert self.error is not None
            raise self.error
        return self.answer.text


def answer(choices: Sequence[types_pb2.Choice], usage: types_pb2.Usage) -> Answer:
    return Answer(tuple(choices), usage.prompt_tokens, usage.completion_tokens)


def result(proto: batch_job_pb2.BatchResult) -> Result:
    if proto.HasField("error"):
        return Result(proto.row, proto.custom_id, None, errors.of_row(proto.error))
    return Result(proto.row, proto.custom_id, answer(proto.choices, proto.usage), None)
