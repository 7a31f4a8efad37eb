"""BM25 behind mteb's search protocol: it retrieves and reranks, and has no vectors for other tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from m3e.errors import MissingExtraError
from m3e.inference.words import words_version
from m3e.retrieval.bm25 import BM25, K1, B


class Bm25Model:
    """An mteb ``SearchProtocol`` over :class:`m3e.retrieval.bm25.BM25`.

    Attributes:
        prompts: of no effect: words are searched as they stand.
        has_prompts: never.
    """

    prompts: bool = True
    has_prompts: bool = False

    def __init__(self) -> None:
        from mteb.models import ModelMeta

        try:
            version = metadata.version("bm25s")
        except metadata.PackageNotFoundError as error:
            raise MissingExtraError("bm25s", "eval") from error
        self._index: BM25 | None = None
        revision = f"bm25s-{version}-{words_version()}-k{K1}-b{B}"
        self.mteb_model_meta = ModelMeta.create_empty({"name": "m3e/bm25", "revision": revision})

    def index(self, corpus: Any, **_: Any) -> None:
        """Index mteb's corpus, a title before its text."""
        self._index = BM25.build((f"{row.get('title') or ''} {row['text']}" for row in corpus), corpus["id"])

    def search(
        self, queries: Any, *, top_k: int, top_ranked: Mapping[str, Sequence[str]] | None = None, **_: Any
    ) -> dict[str, dict[str, float]]:
        """Document ids and scores by query id: the best ``top_k`` that share a word, or all candidates."""
        assert self._index is not None, "mteb indexes before it searches"
        found: dict[str, dict[str, float]] = {}
        for row in queries:
            query, text = str(row["id"]), _query_text(row["text"])
            if top_ranked is not None:
                candidates = list(top_ranked[query])
                found[query] = dict(zip(candidates, self._index.scores(text, candidates), strict=True))
            else:
                found[query] = {hit.id: hit.score for hit in self._index.search([text], top_k)[0]}
        return found


def _query_text(value: Any) -> str:
    """A query's words; a conversation is all of its turns."""
    if isinstance(value, str):
        return value
    return " ".join(turn if isinstance(turn, str) else str(turn.get("content", "")) for turn in value)
