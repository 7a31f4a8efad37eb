"""Data made with a model: hard negatives, teacher scores, a filter of positives that a model does not believe."""

from m3e.mining.options import EmbeddingOptions, MiningOptions, ScoringOptions

__all__ = ["EmbeddingOptions", "MiningOptions", "ScoringOptions", "mine", "score"]


def __getattr__(name: str) -> object:
    if name == "mine":
        from m3e.mining.hard_negatives import mine

        return mine
    if name == "score":
        from m3e.mining.teacher_scores import score

        return score
    raise AttributeError(f"module 'm3e.mining' has no attribute {name!r}")
