"""A model with its prompts and without: does it follow them, and by how much?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

from m3e.errors import SettingsError

if TYPE_CHECKING:
    from rich.table import Table

    from m3e.evaluation.paired import Paired
    from m3e.evaluation.read_results import StoredResults
    from m3e.evaluation.results import Results, TaskScore

Prompts = Literal["on", "off", "both"]


def prompt_settings(wanted: str, scorer: Any, name: str, notes: list[str]) -> tuple[bool, ...]:
    """For each run whether the model's prompts are put before texts.

    Args:
        wanted: ``on``, ``off`` or ``both``.
        scorer: what mteb calls.
        name: the model's, for messages.
        notes: gets a line where there are no prompts to switch off; then one run is made.

    Raises:
        SettingsError: no such setting, or prompts that we do not put there.
    """
    if wanted not in get_args(Prompts):
        raise SettingsError(f"prompts {wanted!r} is not known; choose {', '.join(get_args(Prompts))}")
    if wanted == "on":
        return (True,)
    if not hasattr(scorer, "prompts"):
        raise SettingsError(f"{name} puts its own prompts before texts, if any: they cannot be switched off from here")
    if not scorer.has_prompts:
        notes.append(f"{name} has no prompts: there is nothing to switch off")
        return (True,)
    return (False,) if wanted == "off" else (True, False)


@contextmanager
def prompts_switched(scorer: Any, on: bool) -> Iterator[None]:
    """Prompts as wanted inside the block, and as they were after it."""
    if not hasattr(scorer, "prompts"):
        yield
        return
    before = scorer.prompts
    scorer.prompts = on
    try:
        yield
    finally:
        scorer.prompts = before


def compare_prompts(stored: StoredResults) -> list[Paired]:
    """For each model that has results with prompts and without, the paired test of with against without."""
    from m3e.errors import DataError
    from m3e.evaluation.paired import Paired, paired_test
    from m3e.evaluation.read_results import identity

    found = []
    for model, label in stored.labels().items():
        results = [item for item in stored.results if (item.model, item.revision) == model]
        without = {identity(item.score)[:-1]: item for item in results if not item.score.prompts}
        with_both = [item for item in results if item.score.prompts and identity(item.score)[:-1] in without]
        tests, refused = [], {}
        for item in with_both:
            off = without[identity(item.score)[:-1]]
            try:
                tests.append(paired_test(off, item, stored.label(off), label))
            except DataError as error:
                refused[item.score.name] = str(error)
        if with_both:
            found.append(Paired(f"{label} without prompts", label, tests, refused))
    return found


def prompt_differences(results: Results) -> list[tuple[TaskScore, TaskScore]]:
    """The scores with and without prompts of each task that has both."""

    def identity(score: TaskScore) -> tuple[str, str, str, str]:
        return (score.task, score.recipe, score.split, score.data_revision)

    without = {identity(score): score for score in results.results if not score.prompts}
    return [
        (score, without[identity(score)]) for score in results.results if score.prompts and identity(score) in without
    ]


def prompts_table(results: Results) -> Table:
    """A table of each task's score with prompts, without, and what they bring; the mean in the last row."""
    from rich.table import Table

    pairs = prompt_differences(results)
    table = Table(title=f"{results.model}: what its prompts bring")
    for name in ("task", "metric"):
        table.add_column(name)
    for name in ("with", "without", "difference"):
        table.add_column(name, justify="right")
    for on, off in pairs:
        table.add_row(on.name, on.metric, f"{on.score:.4f}", f"{off.score:.4f}", f"{on.score - off.score:+.4f}")
    if len(pairs) > 1:
        mean_on = sum(on.score for on, _ in pairs) / len(pairs)
        mean_off = sum(off.score for _, off in pairs) / len(pairs)
        table.add_row("mean", "", f"{mean_on:.4f}", f"{mean_off:.4f}", f"{mean_on - mean_off:+.4f}", style="bold")
    return table
