"""Losses from a teacher's scores of each row's positive and negatives.

Candidates without a score, and slots without a text, are left out; so are rows with nothing left to compare, and the
mean is that of the other rows. Candidates of other rows are none: the teacher has not seen them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from m3e.training.similarity import candidate_cosines
from m3e.training.text_vectors import NO_TEXT


class ScoreKLLoss(nn.Module):
    """Kullback-Leibler divergence of the student's choice among a row's candidates from the teacher's.

    With the cosine s, the teacher's score t and the row's candidates C (its positive and negatives)::

        p_c = softmax_C(t_c / τ_t)      q_c = softmax_C(s_c / τ)      Σ_C p_c (log p_c - log q_c)

    It is not multiplied by τ², as Hinton et al. do for τ ≥ 1: so its gradient is as large as the in-batch softmax's.

    Args:
        temperature: the student's τ.
        teacher_temperature: τ_t, by default τ, which suits a teacher whose scores are cosines; it should be near the
            spread of the scores that the teacher gives to a row's candidates.

    Source: Hinton et al. 2015 (arXiv:1503.02531); for rankings Lin et al. 2020 (arXiv:2010.11386).
    """

    wants = ("keys", "scores")

    def __init__(self, temperature: float = 0.05, teacher_temperature: float | None = None) -> None:
        super().__init__()
        self.temperature = temperature
        self.teacher_temperature = teacher_temperature or temperature

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: tuple[Tensor, Tensor]) -> Tensor:
        """The batch's mean loss, a scalar.

        Args:
            embeddings: queries, positives, then one tensor a negative column, each (batch, dimension).
            labels: text ids (batch, columns) and the teacher's scores (batch, columns - 1), NaN for none.
        """
        keys, scores = labels
        known = known_scores(keys, scores)
        rows = known.sum(dim=1) >= 2
        known = known[rows]
        cosines = candidate_cosines([column[rows] for column in embeddings])
        targets = (scores[rows].to(cosines.dtype) / self.teacher_temperature).masked_fill(~known, -torch.inf)
        wanted = torch.softmax(targets, dim=1)
        found = torch.log_softmax((cosines / self.temperature).masked_fill(~known, -torch.inf), dim=1)
        # where nothing is known both are 0 and -inf, whose product is no number
        of_rows = (torch.xlogy(wanted, wanted) - wanted * found.masked_fill(~known, 0)).sum(dim=1)
        return of_rows.sum() / max(1, len(of_rows))

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, for the model card."""
        return {"temperature": self.temperature, "teacher_temperature": self.teacher_temperature}


class MarginMSELoss(nn.Module):
    """Squared difference between the student's and the teacher's margins of the positive over each negative.

    With the cosine s, the teacher's score t, the row's positive + and its negatives N::

        1/|N| Σ_{n in N} ( (s_+ - s_n) - scale (t_+ - t_n) )²

    Args:
        scale: what brings the teacher's margins to those of cosines: 1 for a teacher whose scores are cosines, about
            0.05 for one whose scores are logits.

    Source: Hofstätter et al. 2020 (arXiv:2010.02666).
    """

    wants = ("keys", "scores")

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: tuple[Tensor, Tensor]) -> Tensor:
        """The batch's mean loss, a scalar; arguments as of :class:`ScoreKLLoss`."""
        keys, scores = labels
        known = known_scores(keys, scores)
        negatives = known[:, 1:] & known[:, :1]
        rows = negatives.any(dim=1)
        negatives = negatives[rows]
        cosines = candidate_cosines([column[rows] for column in embeddings])
        targets = scores[rows].to(cosines.dtype) * self.scale
        change = (cosines[:, :1] - cosines[:, 1:]) - (targets[:, :1] - targets[:, 1:])
        of_rows = change.masked_fill(~negatives, 0).square().sum(dim=1) / negatives.sum(dim=1)
        return of_rows.sum() / max(1, len(of_rows))

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, for the model card."""
        return {"scale": self.scale}


def known_scores(keys: Tensor, scores: Tensor) -> Tensor:
    """Which of the rows' candidates are there and have a score, shape (batch, columns - 1)."""
    return torch.isfinite(scores) & (keys[:, 1:] != NO_TEXT)
