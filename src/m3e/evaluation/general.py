"""The general check: does a model still know Chinese at large after it was tuned on something narrow?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m3e.data.samples import general_data
from m3e.evaluation.measures import mean_cosine, retrieval_measures, spearman, unit
from m3e.inference import Encoder


@dataclass(frozen=True)
class GeneralScore:
    """The general check's figures.

    Attributes:
        sts: Spearman of cosines with labels, −1..1.
        ndcg_at_10: of the retrieval queries, 0..1.
        spread: mean cosine between different sentences; near 1 means that all texts look alike.
    """

    sts: float
    ndcg_at_10: float
    spread: float

    @property
    def score(self) -> float:
        """The mean of the two figures."""
        return (self.sts + self.ndcg_at_10) / 2


def general_check(encoder: Encoder) -> GeneralScore:
    """Judge ``encoder`` on the project's broad sample data: 217 scored pairs, 165 queries over 159 passages."""
    data = general_data()
    left = unit(encoder.encode_query([first for first, _, _ in data.pairs]))
    right = unit(encoder.encode_query([second for _, second, _ in data.pairs]))
    cosines = (left * right).sum(axis=1)
    correlation = spearman(cosines, [label for _, _, label in data.pairs])
    place = {identifier: index for index, identifier in enumerate(data.passages)}
    queries = unit(encoder.encode_query([text for text, _ in data.queries]))
    passages = unit(encoder.encode_document(list(data.passages.values())))
    found = retrieval_measures(queries @ passages.T, [{place[identifier]} for _, identifier in data.queries])
    return GeneralScore(correlation or 0.0, found.ndcg_at_10, mean_cosine(np.concatenate([left, queries])))
