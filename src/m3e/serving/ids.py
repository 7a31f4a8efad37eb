"""The ids under which one model is served: for passages, for queries, and their aliases."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from m3e.serving.failures import ApiError
from m3e.serving.options import query_ids


class ServedIds:
    """The ids of a served model, and which of them are for queries.

    A client of OpenAI's API cannot say that a text is a query, so a model has two ids: ``NAME`` puts the prompt of
    passages before texts, ``NAME:query`` that of queries. Every alias has the same two.

    Args:
        name: of the model.
        aliases: each alias and the id that it stands for.
    """

    def __init__(self, name: str, aliases: Mapping[str, str]) -> None:
        self.name = name
        passages, queries = query_ids(name)
        self._is_query = {passages: False, queries: True}
        for alias, target in aliases.items():
            self._is_query[alias] = self._is_query[target]
        for alias in aliases:
            self._is_query.setdefault(query_ids(alias)[1], True)
        self._created = int(time.time())

    def __contains__(self, model: str) -> bool:
        return model in self._is_query

    @property
    def all(self) -> list[str]:
        """Every id."""
        return list(self._is_query)

    def is_query(self, model: str) -> bool:
        """Whether texts for this id are queries.

        Raises:
            ApiError: 404, there is no such id; names those that there are.
        """
        try:
            return self._is_query[model]
        except KeyError:
            known = ", ".join(self._is_query)
            raise ApiError(
                404,
                f"The model {model[:100]!r} is not served here. There are: {known}.",
                param="model",
                code="model_not_found",
            ) from None

    def card(self, model: str) -> dict[str, Any]:
        """The API's object of one id.

        Raises:
            ApiError: 404, there is no such id.
        """
        self.is_query(model)
        return {"id": model, "object": "model", "created": self._created, "owned_by": "m3e"}
