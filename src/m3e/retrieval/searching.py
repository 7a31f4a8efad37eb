"""Searching a store: by vectors, by words, or by both; then, where asked for, in the order of a reranker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from m3e.data.keys import is_blank
from m3e.errors import DataError, HubUnreachableError, ModelError, SettingsError
from m3e.retrieval.filters import Condition, Filter, conditions_of, passes
from m3e.retrieval.fusion import Fusion, reciprocal_rank, weighted
from m3e.retrieval.lexical import lexical_index
from m3e.retrieval.reranking import Reranker
from m3e.retrieval.stores.cosines import cosines
from m3e.retrieval.stores.database import Row, Vector
from m3e.retrieval.stores.identity import model_of
from m3e.retrieval.stores.store import Hit, Store

if TYPE_CHECKING:
    from m3e.inference.encoder import Encoder

Mode = Literal["dense", "bm25", "hybrid"]
RERANK_DEPTH = 50


def search(
    store: Store,
    encoder: Encoder | None,
    query: str,
    top_k: int = 10,
    mode: Mode = "dense",
    filters: Sequence[str | Filter] = (),
    *,
    fusion: Fusion | None = None,
    reranker: Reranker | None = None,
    rerank_depth: int = RERANK_DEPTH,
) -> list[Hit]:
    """The best documents of a store for a query, best first, ties by id.

    Scores are cosines (``dense``), BM25's (``bm25``, which finds only documents that share a word with the query),
    fused (``hybrid``), or the reranker's.

    Args:
        encoder: of the store's model; ``bm25`` needs none.
        filters: conditions on metadata, all of which must hold (:mod:`m3e.retrieval.filters`).
        fusion: of ``hybrid``; reciprocal ranks by default.
        reranker: scores the best ``rerank_depth`` (at least ``top_k``) documents anew.

    Raises:
        DataError: a query without text; in ``dense``, one to which the model gives the vector of zeros.
        SettingsError: a mode, filter or number that does not exist.
        StoreError: the encoder's model is not the store's.
    """
    check_search(query, top_k, mode)
    conditions = conditions_of(filters)
    wanted = max(top_k, rerank_depth) if reranker else top_k
    if encoder is not None:
        store.check_model(encoder)
    if mode == "bm25":
        hits = _lexical(store, query, wanted, conditions)
    elif encoder is None:
        raise SettingsError(f"the mode {mode} needs an encoder")
    elif mode == "dense":
        hits = store.nearest(encoder.encode_query([query])[0], wanted, conditions)
    else:
        hits = _hybrid(store, encoder.encode_query([query])[0], query, wanted, conditions, fusion or Fusion())
    if reranker:
        hits = _reranked(query, hits, reranker)
    return hits[:top_k]


def encoder_of(store: Store, model: str | None = None) -> Encoder:
    """An encoder for searching a store: of the model that the store remembers, or of ``model`` if that is the same.

    Raises:
        StoreError: the model is another one; names both.
        ModelError: the remembered model cannot be loaded; says that ``--model`` can name where it is now.
    """
    own = store.model
    if model is not None:
        return _checked(store, model, model)
    try:
        return _checked(store, own.name, f"what is now at {own.name}")
    except HubUnreachableError:
        raise
    except ModelError as error:
        raise ModelError(
            f"the store {store.url.shown} was made with the model {own}, which cannot be loaded any more: {error}; "
            "name where it is now: --model FOLDER"
        ) from error


def _checked(store: Store, model: str, name: str) -> Encoder:
    """An encoder of the store's model and dimension."""
    from m3e.inference.encoder import Encoder

    encoder, own = Encoder(model), store.model
    if model_of(encoder, model).fingerprint == own.fingerprint and own.dimension < encoder.dimension:
        encoder = Encoder(encoder.model, dim=own.dimension)  # indexed with the first numbers of each vector only
    store.check_model(encoder, name)
    return encoder


def check_search(query: str, top_k: int, mode: str) -> None:
    """Refuse what no store can answer.

    Raises:
        DataError: a query without text.
        SettingsError: a mode or number that does not exist.
    """
    if mode not in get_args(Mode):
        raise SettingsError(f"the mode {mode!r} is not known; choose {', '.join(get_args(Mode))}")
    if top_k < 1:
        raise SettingsError(f"--top-k must be at least 1, not {top_k}")
    if is_blank(query):
        raise DataError("the query is empty")


def _lexical(store: Store, query: str, k: int, conditions: Sequence[Condition]) -> list[Hit]:
    """The best documents by BM25 that meet the conditions, found by looking at ever more of the whole ranking."""
    index = lexical_index(store)
    asked = k
    while True:
        ranking = index.search([query], asked)[0]
        scores = {hit.id: hit.score for hit in ranking}
        rows = store.fetch(list(scores))
        kept = [rows[key] for key in scores if key in rows and passes(conditions, rows[key].metadata)]
        if len(kept) >= k or len(ranking) < asked:
            return [_hit(row, scores[row.id]) for row in kept[:k]]
        asked *= 4


def _hybrid(
    store: Store, vector: Vector, query: str, k: int, conditions: Sequence[Condition], fusion: Fusion
) -> list[Hit]:
    depth = max(k, fusion.depth)
    # a query of words that the model does not know still has its words
    dense = store.nearest(vector, depth, conditions) if vector.any() else []
    lexical = _lexical(store, query, depth, conditions)
    found = {hit.id: hit for hit in (*dense, *lexical)}
    weights = (fusion.dense_weight, 1 - fusion.dense_weight)
    if fusion.method == "rrf":
        scores = reciprocal_rank([[hit.id for hit in part] for part in (dense, lexical)], k=fusion.k, weights=weights)
    else:
        scores = weighted(_all_scores(store, vector, query, list(found)), weights, scale=fusion.scale)
    return [Hit(key, score, found[key].text, found[key].metadata) for key, score in scores.items()][:k]


def _all_scores(store: Store, vector: Vector, query: str, ids: list[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Cosines and BM25 scores of all candidates, whichever ranking they come from."""
    rows = list(store.fetch(ids).values())
    unit = vector / max(float((vector.astype(float) ** 2).sum()) ** 0.5, 1e-30)
    cosine = dict(zip((row.id for row in rows), cosines(unit, rows), strict=True))
    return cosine, dict(zip(ids, lexical_index(store).scores(query, ids), strict=True))


def _reranked(query: str, hits: list[Hit], reranker: Reranker) -> list[Hit]:
    scores = reranker(query, [hit.text for hit in hits]) if hits else []
    if len(scores) != len(hits):
        raise DataError(f"the reranker gave {len(scores)} scores for {len(hits)} texts")
    scored = [Hit(hit.id, float(score), hit.text, hit.metadata) for hit, score in zip(hits, scores, strict=True)]
    return sorted(scored, key=lambda hit: (-hit.score, hit.id))


def _hit(row: Row, score: float) -> Hit:
    return Hit(row.id, score, row.text, dict(row.metadata))
