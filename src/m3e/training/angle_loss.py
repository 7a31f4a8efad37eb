"""The order of scored pairs by cosine and by angle in complex space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentence_transformers.sentence_transformer.losses import AnglELoss as AngleOrder
from sentence_transformers.sentence_transformer.losses import CoSENTLoss
from torch import Tensor, nn

from m3e.training.similarity import precise

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class AngleLoss(nn.Module):
    """Pairs with a higher label should be more alike, by their cosine and by their angle in complex space.

    With labels y and a similarity s of each pair, each of the two parts is::

        log( 1 + Σ_{y_i < y_j} exp( (s_i - s_j) / τ ) )

    once with the cosine and once with AnglE's similarity: a vector's first half are the real and its second half the
    imaginary parts of complex numbers; with both vectors of length 1, x = a + bi and y = c + di, it is
    ``|Σ (ac + bd) + Σ (bc - ad)|``. Where the cosine is near 1 or -1 its gradient vanishes, that of the sines does not.

    The loss is ``cosine`` times the first part plus ``angle`` times the second. Memory grows with the batch, not its
    square: labels are sorted, and the sums over higher ones are running sums.

    Source: Li & Li 2023, AnglE (arXiv:2309.12871), as its authors' code has it; the cosine part alone is CoSENT
    (Su 2022, kexue.fm/archives/8847).
    """

    wants = ("labels",)

    def __init__(
        self, model: SentenceTransformer, temperature: float = 0.05, cosine: float = 1.0, angle: float = 1.0
    ) -> None:
        super().__init__()
        self.by_cosine = CoSENTLoss(model, scale=1 / temperature)
        self.by_angle = AngleOrder(model, scale=1 / temperature)
        self.cosine = cosine
        self.angle = angle

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """The batch's loss, a scalar.

        Args:
            embeddings: both sentences' columns, each (batch, dimension).
            labels: a number a pair; only their order counts.
        """
        pairs = [precise(column) for column in embeddings]
        by_cosine: Tensor = self.by_cosine.compute_loss_from_embeddings(pairs, labels)
        by_angle: Tensor = self.by_angle.compute_loss_from_embeddings(pairs, labels)
        return self.cosine * by_cosine + self.angle * by_angle

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, for the model card."""
        return {"temperature": 1 / self.by_cosine.scale, "cosine": self.cosine, "angle": self.angle}
