"""The whole line on the sample help centre: fine-tune, judge before and after, search, leave a folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from m3e.data.samples import HelpCentre, help_centre
from m3e.evaluation.general import general_check
from m3e.evaluation.measures import RetrievalMeasures, retrieval_measures, unit
from m3e.inference import Encoder
from m3e.models.names import local_models
from m3e.retrieval.exact import top_k

PREFERRED = ("m3e-small", "m3e-tiny")
QUESTIONS = ("刚下单五分钟，地址填错了能自己改吗", "会员等级是按什么算的", "how do I return something")
EPOCHS = 5
BATCH_SIZE = 32
EVALUATIONS = 2


@dataclass(frozen=True)
class QuickstartResult:
    """Figures before and after, answers found, and where the model lies."""

    base: str
    before: dict[str, float]
    after: dict[str, float]
    answers: list[tuple[str, str, float]]
    model_dir: Path
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The machine-readable result of ``m3e quickstart --json``."""
        return {
            "base": self.base,
            "before": self.before,
            "after": self.after,
            "model_dir": str(self.model_dir),
            "seconds": round(self.seconds, 1),
        }

    def table(self) -> Table:
        """Before and after, side by side."""
        table = Table(title=f"{self.base} on the help centre's held-out questions", title_justify="left")
        table.add_column("measure")
        table.add_column("before", justify="right")
        table.add_column("after", justify="right")
        for name, value in self.before.items():
            table.add_row(name, f"{value:.4f}", f"{self.after[name]:.4f}")
        return table

    def closing_lines(self) -> list[str]:
        """The answers found by the tuned model, and how to use it."""
        lines = [
            line for question, answer, score in self.answers for line in (f"问 {question}", f"答 {score:.3f} {answer}")
        ]
        return [
            *lines,
            f"the model is in {self.model_dir}; use it with:",
            "  from sentence_transformers import SentenceTransformer",
            f'  model = SentenceTransformer("{self.model_dir}")',
            '  vectors = model.encode_query(["你们支持退货吗"])',
        ]


def run_quickstart(
    model: str | None,
    out: Path,
    *,
    say: Callable[[str], None] = print,
    on_step: Callable[[int, int, float | None], None] = lambda step, total, loss: None,
) -> QuickstartResult:
    """Fine-tune ``model`` (default: the best that is here) on the sample help centre and judge it."""
    from m3e.training.finetuner import FineTuner

    started = time.monotonic()
    name = model or next(name for name in PREFERRED if local_models()[name].available())
    data = help_centre()
    say(f"base {name}; {len(data.train)} training questions, {len(data.test)} held-out, {len(data.answers)} answers")
    rows = [{"text": question, "text_pos": data.answers[answer]} for question, answer in data.train]
    tuner = FineTuner(name, rows)
    before = _judge(Encoder(tuner.model), data)
    tuned = tuner.run(out, epochs=EPOCHS, batch_size=BATCH_SIZE, evaluations=EVALUATIONS, say=say, on_step=on_step)
    encoder = Encoder(tuned)
    return QuickstartResult(
        base=name,
        before=before,
        after=_judge(encoder, data),
        answers=search(encoder, QUESTIONS, data),
        model_dir=out,
        seconds=time.monotonic() - started,
    )


def _judge(encoder: Encoder, data: HelpCentre) -> dict[str, float]:
    found = _retrieve(encoder, data)
    return {**found.as_dict(), "general": general_check(encoder).score}


def _retrieve(encoder: Encoder, data: HelpCentre) -> RetrievalMeasures:
    place = {identifier: index for index, identifier in enumerate(data.answers)}
    questions = unit(encoder.encode_query([question for question, _ in data.test]))
    answers = unit(encoder.encode_document(list(data.answers.values())))
    return retrieval_measures(questions @ answers.T, [{place[answer]} for _, answer in data.test])


def search(encoder: Encoder, questions: tuple[str, ...], data: HelpCentre) -> list[tuple[str, str, float]]:
    """For each question the best answer and its cosine."""
    texts = list(data.answers.values())
    scores, rows = top_k(unit(encoder.encode_query(list(questions))), unit(encoder.encode_document(texts)), 1)
    return [
        (question, texts[int(row[0])], float(score[0]))
        for question, row, score in zip(questions, rows, scores, strict=True)
    ]
