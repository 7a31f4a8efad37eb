"""Faults that pydantic finds, as m3e words them."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from m3e.faults import faults


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = ""


class Outer(BaseModel):
    fields: list[Inner] = []
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def in_order(self) -> Outer:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fields": [{}, {"txt": "a"}]}, "fields[1].txt: no such key"),
        ({"low": 2}, "low is above high"),
        ({"low": "x", "high": []}, "low: Input should be a valid integer, unable to parse string as an integer; high:"),
    ],
)
def test_each_key_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    assert faults(caught.value).startswith(message)


def test_a_place_by_another_name() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"fields": [{"txt": "a"}]})
    assert faults(caught.value, place=lambda path: ["first", *path[2:]]) == "first.txt: no such key"
