"""What can be chosen when negatives are mined and texts are scored."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from m3e.errors import SettingsError

Sampling = Literal["top", "random"]

_RANGE = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class EmbeddingOptions:
    """How a model makes vectors of queries and passages.

    Attributes:
        query_prompt: put before each query instead of the model's own prompt of queries.
        passage_prompt: put before each passage instead of the model's own prompt of documents.
        dtype: of the computation; vectors are fp32.
        device: ``cpu``, ``cuda``, …
        batch_tokens: padded tokens a batch.
    """

    query_prompt: str | None = None
    passage_prompt: str | None = None
    dtype: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    device: str | None = None
    batch_tokens: int | None = None


@dataclass(frozen=True)
class MiningOptions:
    """Which passages become hard negatives, and which positives stay.

    Passages are ranked by their cosine to the query. Ranks count from 0 and leave out what is never a negative:
    positives of the query, the query itself, and passages whose key (:func:`m3e.data.keys.text_key`) equals one of
    theirs or that of a passage ranked before.

    The margins are NV-Retriever's (Moreira et al. 2024, arXiv:2407.15831), below the lowest cosine of the query's
    positives; ``consistency`` is the filter of E5 (Wang et al. 2022, arXiv:2212.03533).

    Attributes:
        negatives: mined for each query; 0 mines none, where only ``consistency`` is wanted.
        ranks: the first rank that may be a negative, and the rank before which to stop.
        sampling: ``top`` takes the most alike of those that may be, ``random`` any of them.
        relative_margin: a negative's cosine is at least this share of the positive's below it.
        absolute_margin: a negative's cosine is at least this much below the positive's.
        max_score: a negative's cosine at most.
        min_score: a negative's cosine at least.
        reranker_margin: a negative's score by the reranker is at least this much below the positive's.
        consistency: keep a positive only where fewer than this many other passages are more like its query.
        pool: search that many passages only, drawn by the seed; all by default.
        replace: leave out the negatives that rows have already, instead of mining more beside them.
        scores: write the model's cosines of positives and negatives.
        seed: of ``random`` and ``pool``.
    """

    negatives: int = 7
    ranks: tuple[int, int] = (0, 200)
    sampling: Sampling = "top"
    relative_margin: float | None = 0.05
    absolute_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    reranker_margin: float = 0.0
    consistency: int | None = None
    pool: int | None = None
    replace: bool = False
    scores: bool = False
    seed: int = 42

    def __post_init__(self) -> None:
        self._check_negatives()
        self._check_scores()
        for option, value in (("--consistency", self.consistency), ("--pool", self.pool)):
            if value is not None and value < 1:
                raise SettingsError(f"{option} must be at least 1, not {value}")

    def _check_negatives(self) -> None:
        first, stop = self.ranks
        if self.negatives < 0:
            raise SettingsError(f"--negatives must not be below 0, and is {self.negatives}")
        if self.negatives == 0 and self.consistency is None:
            raise SettingsError("--negatives 0 leaves nothing to do; give --consistency, or mine at least 1")
        if self.negatives == 0 and self.replace:
            raise SettingsError("--replace would leave no negatives with --negatives 0; leave one of them out")
        if not 0 <= first < stop:
            raise SettingsError(f"--range {first}-{stop}: the first rank must be at least 0 and below the second")
        if self.negatives > stop - first:
            raise SettingsError(
                f"--range {first}-{stop} has {stop - first} ranks, too few for --negatives {self.negatives}"
            )
        if self.sampling not in get_args(Sampling):
            raise SettingsError(f"--sampling {self.sampling!r} is not known; choose top or random")

    def _check_scores(self) -> None:
        if self.relative_margin is not None and not 0 <= self.relative_margin <= 1:
            raise SettingsError(f"--relative-margin must be between 0 and 1, not {self.relative_margin:g}")
        if self.absolute_margin is not None and not 0 <= self.absolute_margin <= 2:
            raise SettingsError(f"--absolute-margin must be between 0 and 2, not {self.absolute_margin:g}")
        if self.max_score is not None and self.min_score is not None and self.min_score > self.max_score:
            raise SettingsError(f"--min-score {self.min_score:g} is above --max-score {self.max_score:g}")

    def as_dict(self) -> dict[str, Any]:
        """The options as a JSON object."""
        return {**asdict(self), "ranks": list(self.ranks)}


@dataclass(frozen=True)
class ScoringOptions:
    """What a teacher's scores become.

    Attributes:
        labels: write scored pairs of each query with each of its texts, instead of scores beside the texts.
    """

    labels: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The options as a JSON object."""
        return asdict(self)


def parse_ranks(text: str) -> tuple[int, int]:
    """The ranks that ``10-210`` names: from the first to before the second.

    Raises:
        SettingsError: it is not of that form.
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise SettingsError(f"--range {text!r} is not a range of ranks; write it as 10-210")
    return int(found[1]), int(found[2])
