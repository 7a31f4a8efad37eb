"""Which model a store's vectors come from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from m3e.inference.encoder import DOCUMENT_PROMPTS

if TYPE_CHECKING:
    from m3e.inference.encoder import Encoder


@dataclass(frozen=True)
class StoreModel:
    """A model as a store remembers it. Two are the same where all but the names agree.

    Attributes:
        name: what loads it: a name, a hub id, or the absolute path of a folder.
        fingerprint: of its weights and prompts (:func:`m3e.models.fingerprint.fingerprint`).
        dimension: numbers a vector.
        pooling: how the vectors of tokens become one, where the model says so.
        query_prompt: put before queries.
        document_prompt: put before documents.
    """

    name: str
    fingerprint: str
    dimension: int
    pooling: str
    query_prompt: str
    document_prompt: str

    def is_same(self, other: StoreModel) -> bool:
        """Whether vectors of both can be compared."""
        return asdict(self) | {"name": ""} == asdict(other) | {"name": ""}

    def __str__(self) -> str:
        return f"{self.name} ({self.dimension} dimensions, fingerprint {self.fingerprint[:8]})"

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> StoreModel:
        """The model that :func:`dataclasses.asdict` was written of."""
        return cls(**{name: state[name] for name in cls.__dataclass_fields__})


def model_of(encoder: Encoder, name: str | os.PathLike[str]) -> StoreModel:
    """What a store remembers of an encoder's model; ``name``: what :func:`m3e.load` was given."""
    from m3e.models.fingerprint import fingerprint

    prompts = encoder.model.prompts or {}
    default = prompts.get(encoder.model.default_prompt_name or "", "")
    document = next((prompts[key] for key in DOCUMENT_PROMPTS if prompts.get(key)), default)
    text = os.fspath(name)
    return StoreModel(
        name=os.path.realpath(text) if os.path.isdir(text) else text,  # noqa: PTH112
        fingerprint=fingerprint(encoder.model),
        dimension=encoder.dimension,
        pooling=_pooling(encoder.model),
        query_prompt=prompts.get("query") or default,
        document_prompt=document,
    )


def _pooling(model: Any) -> str:
    modes = [getattr(module, "pooling_mode", None) for module in model]
    return "+".join(mode if isinstance(mode, str) else "+".join(mode) for mode in modes if mode)
