"""How much memory a training step takes, estimated beforehand, and what fits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHARE_OF_FREE_MEMORY = 0.5
_SMALLEST_MINI_BATCH = 4


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a step's activations take, and bytes that are free for them."""

    needed: int
    free: int

    @property
    def fits(self) -> bool:
        """Whether the step stays within the share of free memory that training may use."""
        return self.needed <= self.free * SHARE_OF_FREE_MEMORY


def activation_bytes(config: Any, texts: int, length: int, bytes_a_number: int, scores: int | None = None) -> int:
    """Activations kept for the backward pass of ``texts`` texts of ``length`` tokens.

    Args:
        scores: attention scores that are kept for each token and head, ``length`` by default.

    Korthikanti et al. 2022 (arXiv:2205.05198), equation 2, counts s·b·h·(34 + 5·a·s/h) bytes a layer in 16 bits.
    """
    hidden = int(config.hidden_size)
    layers = int(config.num_hidden_layers)
    heads = int(config.num_attention_heads)
    a_layer = length * texts * (34 * hidden + 5 * heads * (length if scores is None else scores))
    return layers * a_layer * bytes_a_number // 2


def free_memory(device: Any) -> int:
    """Free bytes on ``device``: a GPU's, else this machine's."""
    if getattr(device, "type", str(device)) == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    for line in _meminfo().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 8 << 30  # no /proc: a common laptop's worth


def _meminfo() -> str:
    try:
        return Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return ""


def mini_batch_that_fits(
    config: Any, columns: int, batch_size: int, length: int, bytes_a_number: int, free: int
) -> int | None:
    """``None`` where the whole step fits; else the largest power of two of texts that does.

    Args:
        columns: texts a row.
        length: tokens of a long text of the data.
    """
    whole = StepMemory(activation_bytes(config, columns * batch_size, length, bytes_a_number), free)
    if whole.fits:
        return None
    size = 1 << max(0, batch_size.bit_length() - 1)
    while (
        size > _SMALLEST_MINI_BATCH
        and not StepMemory(activation_bytes(config, size, length, bytes_a_number), free).fits
    ):
        size //= 2
    return size


def tokens_that_fit(model: Any, length: int, precision: str, mini_batch: int) -> int:
    """Tokens whose activations fit, beside a mini-batch's, in the share of free memory that training may use.

    Autocast keeps much of a layer in both precisions, which counts double.

    Args:
        length: tokens of a long text of the data.
        mini_batch: tokens of a mini-batch.
    """
    encoder = getattr(model[0], "model", None)
    if encoder is None:
        return 0
    scores = 0 if model.device.type == "cuda" else length  # FlashAttention keeps none
    bytes_a_number = 2 if precision == "bf16" else 4
    a_token = max(1, activation_bytes(encoder.config, 1, length, bytes_a_number, scores) // length)
    return max(0, int(free_memory(model.device) * SHARE_OF_FREE_MEMORY) // a_token - mini_batch)
