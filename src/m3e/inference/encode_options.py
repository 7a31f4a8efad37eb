"""What can be chosen when a file is encoded, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from m3e.errors import SettingsError
from m3e.inference.chunk_encoding import PROMPTS, EncoderPlan, Prompt
from m3e.inference.encoder import BackendName, DType


@dataclass(frozen=True)
class EncodeOptions:
    """How a file is encoded.

    Attributes:
        field: the column to encode; by default ``text``, else the file's first text field.
        prompt: put the model's prompt of that name before each text.
        dim: keep the first numbers only, scaled to length 1 again (Matryoshka).
        batch_tokens: padded tokens a batch.
        workers: processes, each with a model of its own and its share of the threads.
        engine: ``ray`` or ``ray://HOST:PORT``: encode on a cluster.
        device: ``cpu``, ``cuda``, …; several, parted by commas, get a process each.
    """

    field: str | None = None
    prompt: Prompt | None = None
    dtype: DType = "auto"
    dim: int | None = None
    backend: BackendName = "auto"
    batch_tokens: int | None = None
    workers: int = 1
    engine: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        if self.prompt not in (None, *PROMPTS):
            raise SettingsError(f"--prompt {self.prompt!r} is not known; choose {' or '.join(PROMPTS)}")
        if self.workers < 1:
            raise SettingsError(f"--workers must be at least 1, not {self.workers}")
        if self.engine is not None and (self.workers > 1 or len(self.devices) > 1):
            raise SettingsError("--engine deals the work out itself; leave out --workers and name one --device")

    @property
    def devices(self) -> list[str | None]:
        """The devices, ``None`` where the choice is left to the libraries."""
        names = [name.strip() for name in (self.device or "").split(",") if name.strip()]
        return [*names] or [None]

    @property
    def processes(self) -> int:
        """How many processes encode."""
        return max(self.workers, len(self.devices))

    def plan(self, model: str) -> EncoderPlan:
        """How each process opens its encoder.

        Raises:
            SettingsError: options that a model behind an endpoint does not take.
        """
        plan = EncoderPlan(
            model,
            prompt=self.prompt,
            backend=self.backend,
            dtype=self.dtype,
            device=self.devices[0],
            token_budget=self.batch_tokens,
            dim=self.dim,
        )
        if not plan.is_endpoint:
            return replace(plan, threads=_threads(self.processes))
        if self != EncodeOptions(field=self.field, prompt=self.prompt, dim=self.dim):
            raise SettingsError(
                f"{model} runs on its server; --dtype, --backend, --device, --batch-tokens, --workers and --engine "
                "are for models that run here"
            )
        return plan


def _threads(processes: int) -> int:
    """Threads of each process, so that together they are as many as one process would use."""
    import torch

    return max(1, torch.get_num_threads() // processes)


@dataclass(frozen=True)
class EncodeReport:
    """What an encoding run wrote.

    Attributes:
        rows: texts, and vectors.
        dimension: numbers a vector.
        cut: texts that were longer than the model takes.
        blank: texts that hold nothing but spaces.
        field: that was read.
        kept_rows: rows whose chunks an earlier run had finished.
        encoder: one line about what encoded them.
        settings: all that decided the vectors' bytes beside the texts.
        out: the file.
    """

    rows: int
    dimension: int
    cut: int
    blank: int
    field: str
    kept_rows: int
    encoder: str
    settings: dict[str, Any]
    out: Path

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {**asdict(self), "out": str(self.out)}
