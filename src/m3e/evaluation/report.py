"""Results as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from m3e.evaluation.published import Published
    from m3e.evaluation.results import Results, TaskScore


def results_table(results: Results) -> Table:
    """A table of task, split, metric, score, interval, n and, where it compares, the published score.

    A score on other rows or another split than the official one never has a published score beside
    it. Where a publication used another metric than mteb does today, that metric gets its own row.
    """
    from rich.table import Table

    published = results.published()
    table = Table(title=results.model)
    for name in ("task", "split", "metric"):
        table.add_column(name)
    for name in ("score", "95 %", "n") + (("published",) if published else ()):
        table.add_column(name, justify="right")
    for score in results.results:
        for row in _rows(score, published.get(score.task)):
            table.add_row(*row[: len(table.columns)])
    return table


def _rows(score: TaskScore, published: Published | None) -> list[tuple[str, ...]]:
    split = score.split if score.official_split else f"{score.split} (not official)"
    interval = f"{score.ci95[0]:.3f}–{score.ci95[1]:.3f}" if score.ci95 else ""
    main = (score.task, split, score.metric, f"{score.score:.4f}", interval, f"{score.n:,}")
    if published is None:
        return [(*main, "")]
    if published.metric == score.metric:
        return [(*main, f"{published.score:.4f}")]
    other = score.scores.get(published.metric)
    if other is None:
        return [(*main, "")]
    return [(*main, ""), ("", "", published.metric, f"{other:.4f}", "", "", f"{published.score:.4f}")]
