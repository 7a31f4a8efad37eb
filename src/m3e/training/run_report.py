"""How a recipe is run, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3e.training.stages.stage import Ingredient, StageReport

STEP = "train"

Say = Callable[[str], None]


@dataclass(frozen=True)
class RunOptions:
    """How a recipe is run.

    Attributes:
        resume: go on inside a stage from its newest checkpoint; finished stages are kept in any case.
        overwrite: write beside files that are not ours.
        raw: the folder to which the catalogue's paths are relative.
    """

    out: Path
    resume: bool = False
    overwrite: bool = False
    device: str | None = None
    checkpoint_steps: int | None = None
    raw: Path | None = None


@dataclass
class RunReport:
    """What a run did.

    Attributes:
        model: the model folder.
        reused: names of stages that were done before.
        missing: evaluation tasks without data, with the reason.
    """

    model: Path
    stages: dict[str, StageReport] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)
    ingredients: list[Ingredient] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    adapter: Path | None = None
    licence: str = ""
    commercial: str = "unknown"
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "model_dir": str(self.model),
            "adapter_dir": str(self.adapter) if self.adapter else None,
            "stages": {name: report.as_dict() for name, report in self.stages.items()},
            "reused": self.reused,
            "results": self.results,
            "missing": self.missing,
            "licence": self.licence,
            "commercial": self.commercial,
            "seconds": round(self.seconds, 1),
        }
