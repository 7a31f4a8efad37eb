"""The guard: judge a model on held-out rows and in general before, during and after training, keep the best.

The start is a candidate like any other, so a fine-tune never returns a model worse than its start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.errors import ModelError
from m3e.evaluation.general import GeneralScore, general_check
from m3e.evaluation.measures import best_threshold, retrieval_measures, spearman, unit
from m3e.files import atomic_file, read_json, write_json
from m3e.inference import Encoder
from m3e.records import Kind
from m3e.training.rows import Example

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

LARGEST_GENERAL_LOSS = 0.10
LARGEST_SPREAD_RISE = 0.10
LOSS_OF_A_COLLAPSE = 0.01
MOST_DISTRACTORS = 5000


@dataclass(frozen=True)
class Judgement:
    """What the guard saw at one step.

    Attributes:
        task: the held-out measure; ``None`` where nothing was held out.
        fit: the held-out negative log-likelihood's negative, which breaks ties of ``task``.
        measures: all held-out measures by name.
        threshold: the cosine that best separates, where labels allow it.
    """

    step: int
    task: float | None
    fit: float
    measures: dict[str, float]
    threshold: float | None
    general: GeneralScore

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Judgement:
        """The inverse of :meth:`as_dict`."""
        return cls(**{**values, "general": GeneralScore(**values["general"])})


class HeldOut:
    """Held-out rows and how a model is measured on them.

    Args:
        rows: held-out rows of one kind.
        distractors: further texts that a query must not find (the training rows' positives).
        symmetric: both sides take the query prompt.
    """

    def __init__(self, rows: Sequence[Example], kind: Kind, distractors: Sequence[str], *, symmetric: bool) -> None:
        self.rows = rows
        self.kind = kind
        self.metric = "spearman" if kind is Kind.SCORED_PAIR else "ndcg_at_10"
        self._symmetric = symmetric
        positives = dict.fromkeys(text for row in rows for text in row.texts[1:])
        self._documents = list(positives) if kind is not Kind.SCORED_PAIR else []
        extra = [text for text in dict.fromkeys(distractors) if text not in positives]
        self._documents += extra[:MOST_DISTRACTORS] if self._documents else []

    def judge(self, encoder: Encoder) -> tuple[float | None, float, dict[str, float], float | None]:
        """The task measure, the tie-breaking fit, all measures, and the threshold."""
        encode_second = encoder.encode_query if self._symmetric else encoder.encode_document
        if self.kind is Kind.SCORED_PAIR:
            return self._judge_scores(encoder, encode_second)
        return self._judge_retrieval(encoder, encode_second)

    def _judge_scores(
        self, encoder: Encoder, encode_second: Any
    ) -> tuple[float | None, float, dict[str, float], float | None]:
        left = unit(encoder.encode_query([row.texts[0] for row in self.rows]))
        right = unit(encode_second([row.texts[1] for row in self.rows]))
        cosines = (left * right).sum(axis=1)
        labels = np.asarray([row.label for row in self.rows], float)
        correlation = spearman(cosines, labels)
        measures = {} if correlation is None else {"spearman": correlation}
        found = best_threshold(cosines, labels > (labels.min() + labels.max()) / 2)
        if found is not None:
            measures["accuracy"] = found[1]
        fit = _pearson(cosines, labels)
        return correlation, fit, measures, found[0] if found else None

    def _judge_retrieval(self, encoder: Encoder, encode_second: Any) -> tuple[float, float, dict[str, float], None]:
        relevant: dict[str, set[int]] = {}
        place = {text: index for index, text in enumerate(self._documents)}
        for row in self.rows:
            relevant.setdefault(row.texts[0], set()).add(place[row.texts[1]])
        queries = unit(encoder.encode_query(list(relevant)))
        scores = queries @ unit(encode_second(self._documents)).T
        found = retrieval_measures(scores, list(relevant.values()))
        return found.ndcg_at_10, _log_likelihood(scores, list(relevant.values())), found.as_dict(), None


def _pearson(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    first, second = left - left.mean(), right - right.mean()
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum() / scale) if scale > 1e-12 else 0.0


def _log_likelihood(scores: np.ndarray[Any, Any], relevant: list[set[int]], temperature: float = 0.05) -> float:
    """Mean log-probability of a relevant document under a softmax over all documents."""
    logits = scores.astype(np.float64) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits).sum(axis=1))
    best = np.asarray([logits[row, list(wanted)].max() for row, wanted in enumerate(relevant)])
    return float((best - total).mean())


class Guard:
    """Judges a model at steps of its training and keeps the best weights in ``folder``.

    Args:
        model: the start, with what will train marked as such.
        held_out: how the task is measured; ``None`` where no rows could be held out.
        folder: where the best trained weights and the judgements lie, for a resumed run too.
        contrastive: the loss pushes different texts apart, so texts that grow alike are a collapse; CoSENT
            knows only the order of cosines and may shift them all.
    """

    def __init__(
        self, model: SentenceTransformer, held_out: HeldOut | None, folder: Path, *, contrastive: bool = True
    ) -> None:
        self._model = model
        self._held_out = held_out
        self._contrastive = contrastive
        self._weights = folder / "best.safetensors"
        self._record = folder / "guard.json"
        self.judgements: list[Judgement] = []
        self.refusals: dict[int, str] = {}
        self._best: int | None = None
        self._start_weights = trained_weights(model)

    @property
    def start(self) -> Judgement:
        """What the model was before training."""
        return self.judgements[0]

    @property
    def best(self) -> Judgement:
        """The judgement of the weights that are kept; of step 0 where the start was best."""
        return next(item for item in self.judgements if item.step == (self._best or 0))

    def judge(self, step: int) -> Judgement:
        """Measure the model as it is now, without keeping anything."""
        encoder = Encoder(self._model)
        general = general_check(encoder)
        task, fit, measures, threshold = self._held_out.judge(encoder) if self._held_out else (None, 0.0, {}, None)
        return Judgement(step, task, fit, measures, threshold, general)

    def look(self, step: int) -> Judgement:
        """Measure the model after ``step`` steps and keep its weights where they are the best so far."""
        was_training = self._model.training
        judgement = self.judge(step)
        self._model.train(was_training)
        self.judgements = [item for item in self.judgements if item.step < step] + [judgement]
        if step > 0:
            reason = self.reason_to_refuse(judgement)
            if reason:
                self.refusals[step] = reason
            elif self._best is None or _better(judgement, self.best):
                self._keep(step)
        self._save_record()
        return judgement

    def reason_to_refuse(self, judgement: Judgement) -> str | None:
        """Why weights may not be kept whatever their task measure, or ``None``."""
        return reason_to_refuse(self.start, judgement, contrastive=self._contrastive)

    def resume(self, step: int) -> None:
        """Take up the judgements of a stopped run, up to ``step``.

        Raises:
            ModelError: the record is missing or cannot be read.
        """
        try:
            record = read_json(self._record)
            judgements = [Judgement.from_dict(item) for item in record["judgements"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"cannot resume: {self._record} cannot be read ({error}); start anew without --resume"
            ) from error
        self.judgements = [item for item in judgements if item.step <= step]
        best = record["best"]
        if best is not None and best <= step and self._weights.is_file():
            self._best = best

    def restore(self) -> Judgement:
        """Put the best weights into the model, the start's where nothing was better."""
        from safetensors.torch import load_file

        if self._best is not None and _better_than_start(self.best, self.start):
            load_trained(self._model, load_file(self._weights))
            return self.best
        self._best = None
        load_trained(self._model, self._start_weights)
        return self.start

    def _keep(self, step: int) -> None:
        from safetensors.torch import save_file

        self._weights.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self._weights) as temporary:
            save_file(trained_weights(self._model), temporary)
        self._best = step

    def _save_record(self) -> None:
        items = [item.as_dict() for item in self.judgements]
        write_json(self._record, {"judgements": items, "best": self._best})


def reason_to_refuse(start: Judgement, now: Judgement, *, contrastive: bool) -> str | None:
    """Why a checkpoint may not be kept whatever its task measure, or ``None``."""
    if not np.isfinite([now.fit, now.general.score, now.general.spread]).all():
        return "its vectors are not finite"
    alike = now.general.spread > start.general.spread + LARGEST_SPREAD_RISE
    if contrastive and alike and now.general.score < start.general.score - LOSS_OF_A_COLLAPSE:
        return (
            f"different sentences grew alike (mean cosine {start.general.spread:.2f} to {now.general.spread:.2f}), "
            "a learning rate too high is the usual cause"
        )
    if now.general.score < start.general.score - LARGEST_GENERAL_LOSS:
        return f"it forgot too much in general ({start.general.score:.3f} to {now.general.score:.3f})"
    return None


def _better(candidate: Judgement, best: Judgement) -> bool:
    if candidate.task is None or best.task is None:
        return True  # nothing held out: the latest sound checkpoint
    return (candidate.task, candidate.fit) > (best.task, best.fit)


def _better_than_start(best: Judgement, start: Judgement) -> bool:
    return best.task is None or start.task is None or _better(best, start)


def trained_weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    """Copies of the parameters that training changes, by name."""
    return {
        name: parameter.detach().to("cpu", copy=True).contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def load_trained(model: SentenceTransformer, weights: dict[str, torch.Tensor]) -> None:
    """Put weights of :func:`trained_weights` back."""
    import torch

    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)
