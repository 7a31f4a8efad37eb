"""A student's vectors drawn to a teacher's vectors of the same texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from m3e.errors import DataError, SettingsError
from m3e.training.similarity import unit_rows
from m3e.training.text_vectors import TextVectors


class DistillationLoss(nn.Module):
    r"""How far the student's vectors are from the teacher's, one by one, in the batch, and between each other.

    With the student's vector x and the teacher's y of each text of the batch, whatever column it stands in, all of
    length 1, the loss of text i is ``cosine`` times the first, ``contrast`` times the second and ``relational`` times
    the third of::

        1 - x_i · y_i
        -log( exp(x_i · y_i / τ) / Σ_{j in T_i} exp(x_i · y_j / τ) )
        1/|T_i \ i| Σ_{j in T_i \ i} ( (x_i · x_j - y_i · y_j) / spread )²

    T_i holds i and all texts of the batch that are not equal to it, ``spread`` is the standard deviation of the
    teacher's cosines. Texts of which the teacher has no vector are left out. The loss is the mean over all others.

    The first two compare numbers of the two, so the teacher's vectors must have been mapped to the student's dimension
    (:func:`m3e.training.teacher_vectors.write_targets`); the third compares cosines, whatever the dimensions.

    Embeddings of fewer numbers than the teacher's (:class:`m3e.training.matryoshka_loss.MatryoshkaLoss`) are compared
    with so many of the teacher's first numbers, and in the third part with the whole of its cosines.

    Args:
        teacher: its vectors, centred, by the ids of the texts.
        dimension: of the student's embeddings.
        temperature: τ.

    Raises:
        SettingsError: the dimensions differ, and parts that compare numbers are asked for.

    Source: the contrast is that of contrastive representation distillation (Tian et al. 2019, arXiv:1910.10699), the
    relations are Park et al. 2019 (arXiv:1904.05068).
    """

    wants = ("keys",)

    def __init__(
        self,
        teacher: TextVectors,
        dimension: int,
        temperature: float = 0.05,
        cosine: float = 2.0,
        contrast: float = 0.1,
        relational: float = 0.0,
    ) -> None:
        super().__init__()
        _check_dimensions(teacher.dimension, dimension, by_number=bool(cosine or contrast))
        self.teacher = teacher
        self.temperature = temperature
        self.cosine = cosine
        self.contrast = contrast
        self.relational = relational
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """The batch's mean loss, a scalar.

        Args:
            embeddings: one tensor a column, each (batch, dimension).
            labels: text ids (batch, columns).
        """
        return self.compute_loss_of_rows(embeddings, labels, 0, len(labels))

    def compute_loss_of_rows(self, embeddings: list[Tensor], labels: Tensor, start: int, stop: int) -> Tensor:
        """The part of the batch's loss that some of its rows make: the parts of all rows sum to the batch's loss."""
        students = unit_rows(torch.cat(embeddings))
        ids = labels.T.reshape(-1)
        teachers, known = self._of_teacher(labels, students.dtype)
        if not known.any():
            raise DataError("the teacher has no vector of any text of a batch; make its vectors for these data sets")
        places = torch.arange(len(ids), device=ids.device).view(labels.T.shape)[:, start:stop].reshape(-1)
        places = places[known[places]]
        others = (ids[places, None] != ids) & known
        total = students.new_zeros(())
        if self.cosine or self.contrast:
            cosines = students[places] @ unit_rows(teachers[:, : students.shape[1]]).T
            total = total + self._by_number(cosines, others, places).sum()
        if self.relational:
            change = students[places] @ students.T - teachers[places] @ teachers.T
            squares = (change / self.teacher.spread).square() * others
            total = total + self.relational * (squares.sum(dim=1) / others.sum(dim=1).clamp(min=1)).sum()
        return total / known.sum()

    def _of_teacher(self, labels: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The teacher's vectors of a batch, looked up once for all its parts and widths."""
        if self._last is None or self._last[0] is not labels or self._last[1].dtype != dtype:
            vectors, known = self.teacher.look_up(labels.T.reshape(-1), dtype)
            self._last = labels, unit_rows(vectors), known
        return self._last[1:]

    def _by_number(self, cosines: Tensor, others: Tensor, places: Tensor) -> Tensor:
        """The cosine part and the contrast of each text, weighted."""
        own = cosines.gather(1, places[:, None])
        candidates = others.scatter(1, places[:, None], value=True)
        logits = (cosines / self.temperature).masked_fill(~candidates, -torch.inf)
        contrast = torch.logsumexp(logits, dim=1) - own[:, 0] / self.temperature
        return self.cosine * (1 - own[:, 0]) + self.contrast * contrast

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, for the model card."""
        return {
            "temperature": self.temperature,
            "cosine": self.cosine,
            "contrast": self.contrast,
            "relational": self.relational,
        }


def _check_dimensions(teacher: int, student: int, *, by_number: bool) -> None:
    if not by_number or teacher == student:
        return
    if teacher < student:
        raise SettingsError(
            f"the teacher's vectors have {teacher} numbers, the student's {student}: numbers that the teacher does not "
            "have cannot be learnt; set cosine and contrast to 0 and relational above 0, or take a wider teacher"
        )
    raise SettingsError(
        f"the teacher's vectors have {teacher} numbers, the student's {student}: map them to {student} first"
    )
