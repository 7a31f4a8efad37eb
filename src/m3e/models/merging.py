"""The weighted average of models of one shape (Wortsman et al. 2022, "Model soups", arXiv:2203.05482)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from m3e.errors import ModelError
from m3e.models.difference import check_same_shape
from m3e.models.fingerprint import average_into, copy_weights

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def merge(weights: Mapping[str, float], load: Callable[[str], SentenceTransformer]) -> SentenceTransformer:
    """The average of models; pooling, prompts and length are the first one's.

    Models are loaded one after the other, so that two of them are in memory at a time. Prompts that only the others
    have come along.

    Args:
        weights: of each model by name; they count as shares of their sum.
        load: gives a model by name, in memory of its own.

    Raises:
        ModelError: two models have other weights or vocabularies; names both models and the weight or token.
    """
    first, *others = weights
    merged = load(first).float()
    total = weights[first]
    for name in others:
        model = load(name)
        try:
            check_same_shape(merged.state_dict(), model.state_dict())
            _check_same_vocabulary(merged, model)
        except ModelError as error:
            raise ModelError(f"{first} and {name} cannot be averaged: {error}") from error
        total += weights[name]
        average_into(merged, copy_weights(model), weights[name] / total)
        merged.prompts = {**(model.prompts or {}), **(merged.prompts or {})}
    return merged


def _check_same_vocabulary(first: SentenceTransformer, second: SentenceTransformer) -> None:
    own, other = (model.tokenizer.get_vocab() for model in (first, second))
    if own == other:
        return
    token = next(token for token in sorted({*own, *other}) if own.get(token) != other.get(token))
    places = own.get(token, "missing"), other.get(token, "missing")
    raise ModelError(
        f"their vocabularies differ: the token {token!r} is {places[0]} in one and {places[1]} in the other"
    )
