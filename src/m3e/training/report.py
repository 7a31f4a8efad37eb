"""What a fine-tune did: its figures as JSON, as a table, and as the model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from m3e.models.card import front_matter, usage
from m3e.training.guard import Judgement


@dataclass(frozen=True)
class FineTuneReport:
    """The result of a fine-tune.

    Attributes:
        rows: records kept after cleaning, before the split.
        cut: texts cut to the maximum length.
        first_loss: of the first step; ``last_loss`` of the last.
        metric: name of the held-out measure.
        before: the start; ``after`` what was kept, ``merged`` its average with the start where asked for.
        settings: everything that was set, for the card.
        advice: sentences that say what the figures mean.
    """

    kind: str
    source: str
    base: str
    rows: int
    held_out: int
    dropped: Mapping[str, int]
    cut: int
    first_loss: float | None
    last_loss: float | None
    metric: str
    before: Judgement
    after: Judgement
    merged: Judgement | None
    saved: Judgement
    settings: Mapping[str, Any]
    advice: tuple[str, ...]
    model_dir: Path
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The machine-readable result of ``m3e finetune --json``."""
        return {
            "kind": self.kind,
            "rows": self.rows,
            "held_out": self.held_out,
            "dropped": dict(self.dropped),
            "cut": self.cut,
            "loss": {"first": self.first_loss, "last": self.last_loss},
            "metric": self.metric,
            "before": self.before.task,
            "after": self.saved.task,
            "general_before": self.before.general.score,
            "general_after": self.saved.general.score,
            "measures": {"before": self.before.measures, "after": self.saved.measures},
            "merged": None if self.merged is None else {"task": self.merged.task, "general": self.merged.general.score},
            "best_step": self.after.step,
            "threshold": self.saved.threshold,
            "model_dir": str(self.model_dir),
            "seconds": round(self.seconds, 1),
        }

    def table(self) -> Table:
        """Before, after and merged, side by side."""
        table = Table(title=f"{self.base} fine-tuned on {self.source}", title_justify="left")
        table.add_column("measure")
        columns = [("before", self.before), (f"after (step {self.after.step})", self.after)]
        columns += [("merged", self.merged)] if self.merged else []
        for name, _ in columns:
            table.add_column(name, justify="right")
        for name in sorted(self.before.measures.keys() | self.after.measures.keys()):
            label = f"held-out {name}" + (" (decides)" if name == self.metric else "")
            table.add_row(label, *(_number(item.measures.get(name)) for _, item in columns))
        table.add_row("general: STS", *(_number(item.general.sts) for _, item in columns))
        table.add_row("general: nDCG@10", *(_number(item.general.ndcg_at_10) for _, item in columns))
        table.add_row("general: mean", *(_number(item.general.score) for _, item in columns))
        if self.saved.threshold is not None:
            table.add_row("best threshold (cosine)", *(_number(item.threshold) for _, item in columns))
        return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def advice(before: Judgement, after: Judgement, refusals: Mapping[int, str]) -> tuple[str, ...]:
    """What the figures mean, and what to try."""
    lines = []
    if before.task is None or after.task is None:
        lines.append(
            "Too few rows to hold any out: only the general check judged this model; pass --val to measure it."
        )
    elif after.step == 0:
        lines.append(
            "No step was better than the start on the held-out rows, so the start came back: try a lower --lr."
        )
    else:
        verdict = "Better" if after.task > before.task else "As good"
        lines.append(f"{verdict} at the task: {before.task:.4f} to {after.task:.4f} on held-out rows.")
    change = after.general.score - before.general.score
    if change < -0.01:
        lines.append(
            f"It forgot in general ({before.general.score:.4f} to {after.general.score:.4f}): "
            "try --merge 0.5, a lower --lr, fewer --epochs or --lora."
        )
    elif after.step:
        lines.append(f"It did not forget in general ({before.general.score:.4f} to {after.general.score:.4f}).")
    if refusals:
        step, reason = max(refusals.items())
        lines.append(f"{len(refusals)} checkpoint(s) were refused, the last at step {step}: {reason}.")
    return tuple(lines)


def model_card(report: FineTuneReport, licence: str) -> str:
    """README.md of the tuned model: data, settings, before and after, how to use it."""
    settings = "\n".join(f"- {name}: {value}" for name, value in report.settings.items())
    dropped = ", ".join(f"{count} by rule {rule}" for rule, count in report.dropped.items()) or "none"
    columns = [("before", report.before), ("after", report.after)]
    columns += [("merged (saved)", report.merged)] if report.merged is report.saved and report.merged else []
    names = sorted(report.before.measures.keys() | report.after.measures.keys())
    rows = [(f"held-out {name}", [_number(item.measures.get(name)) for _, item in columns]) for name in names]
    rows.append(("general check", [_number(item.general.score) for _, item in columns]))
    table = [
        "| measure | " + " | ".join(name for name, _ in columns) + " |",
        "|---|" + "---|" * len(columns),
        *(f"| {name} | " + " | ".join(values) + " |" for name, values in rows),
    ]
    threshold = report.saved.threshold
    note = (
        f"\n\nCosine threshold that best separates the held-out labels: {threshold:.4f}."
        if threshold is not None
        else ""
    )
    return (
        "\n\n".join(
            [
                front_matter(licence, ["zh"], report.base),
                f"# {report.base}, fine-tuned on {report.source}",
                usage("FOLDER", "this one"),
                f"## Data\n\n{report.rows} {report.kind.replace('_', ' ')} records from {report.source}, "
                f"of which {report.held_out} were held out; dropped: {dropped}; texts cut to the maximum length: "
                f"{report.cut}.",
                "## Before and after\n\n" + "\n".join(table) + note + "\n\n" + "\n".join(report.advice),
                "## Settings\n\n" + settings,
                "Made with m3e.",
            ]
        )
        + "\n"
    )
