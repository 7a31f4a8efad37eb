"""What an export says of itself: closeness, size and speed, before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Cosine:
    """Cosines of the exported model's vectors to the original's, over the same texts."""

    mean: float
    min: float


@dataclass(frozen=True)
class Comparison:
    """An exported model beside its original.

    Attributes:
        compared: in words, what the cosine is taken of.
        texts: how many texts were compared.
        tokens: theirs, together.
        longest: tokens of the longest.
        cosine: between the vectors of one text.
        spearman: of the similarities of pairs of texts, in both models; ``None`` where the cosine says it all.
        bytes_before: of the original's weights.
        bytes_after: of the exported file.
        speed_before: texts a second of the original, as ``m3e.Encoder`` runs it on torch here.
        speed_after: texts a second of the exported form.
        runs_before: backend and dtype that ``speed_before`` was measured with.
        runs_after: the same of ``speed_after``.
    """

    compared: str
    texts: int
    tokens: int
    longest: int
    cosine: Cosine
    spearman: float | None
    bytes_before: int
    bytes_after: int
    speed_before: float
    speed_after: float
    runs_before: str
    runs_after: str


@dataclass(frozen=True)
class ExportReport:
    """What was written and how it compares with the original."""

    model: str
    folder: Path
    format: str
    file: str
    quantised: str | None
    comparison: Comparison

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        found = self.comparison
        return {
            "model": self.model,
            "folder": str(self.folder),
            "format": self.format,
            "file": self.file,
            "quantised": self.quantised,
            "compared": found.compared,
            "texts": found.texts,
            "tokens": found.tokens,
            "longest": found.longest,
            "cosine": {"mean": found.cosine.mean, "min": found.cosine.min},
            "spearman": found.spearman,
            "bytes": {"before": found.bytes_before, "after": found.bytes_after},
            "texts_per_second": {"before": found.speed_before, "after": found.speed_after},
            "runs": {"before": found.runs_before, "after": found.runs_after},
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """Lines of measure, original, exported."""
        found = self.comparison
        rows = [
            ("cosine to the original, mean", "1", f"{found.cosine.mean:.5f}"),
            ("cosine to the original, min", "1", f"{found.cosine.min:.5f}"),
        ]
        if found.spearman is not None:
            rows.append(("Spearman of similarities", "1", f"{found.spearman:.4f}"))
        return [
            *rows,
            ("size, MB", f"{found.bytes_before / 1e6:.1f}", f"{found.bytes_after / 1e6:.1f}"),
            ("speed, texts/s", f"{found.speed_before:.0f}", f"{found.speed_after:.0f}"),
            ("runs on", found.runs_before, found.runs_after),
        ]

    def table(self) -> Table:
        """The report as a table for terminals."""
        from rich.table import Table

        table = Table(title=f"{self.model} as {self.format} {self.quantised or 'fp32'}", title_justify="left")
        for name in ("measure", "original", "exported"):
            table.add_column(name, justify="left" if name == "measure" else "right")
        for row in self.rows():
            table.add_row(*row)
        return table

    def as_markdown(self) -> str:
        """The report as a paragraph and a table for model cards."""
        found = self.comparison
        lines = [
            f"`{self.file}`: {self.format}, {self.quantised or 'fp32'}. Over {found.texts} Chinese and English texts "
            f"of up to {found.longest} tokens; {found.compared}.",
            "",
            "| measure | original | exported |",
            "|---|---:|---:|",
            *(f"| {measure} | {before} | {after} |" for measure, before, after in self.rows()),
        ]
        return "\n".join(lines)
