"""One of two processes that guess tokens: ``masked_worker.py RANK PORT FOLDER``; writes its loss and gradients."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m3e import load
from m3e.training import retromae, token_prediction
from m3e.training.gather import disband, sum_gradients
from m3e.training.retromae import EnhancedDecoder, RetroMaeLoss
from m3e.training.token_prediction import TokenPrediction, attached
from tests.training.masked_model import tokens_of

TEXTS = ["今天天气很好我们去公园", "怎么退货", "abc def地址", "快递到哪了，发票在这里有会员积分", "猫"]


def every_third(ids: Any, starts: Any, table: Any, share: float, random: Any) -> tuple[Any, Any]:
    """Masks that do not depend on what else is in the batch."""
    hidden = (ids % 3 == 0) & ~table.is_special[ids]
    return np.where(hidden, table.mask, ids).astype(np.int32), hidden


def all_tokens(is_token: torch.Tensor, masked: float) -> torch.Tensor:
    return is_token[:, None, :].expand(-1, is_token.shape[1], -1)


def gradients_of(folder: Path, rank: int, world: int) -> tuple[float, dict[str, torch.Tensor]]:
    """RetroMAE's loss, which holds that of masked tokens, and the summed gradients, in float64."""
    token_prediction.mask_words, retromae.visible_tokens = every_third, all_tokens
    model = load(folder, device="cpu")
    torch.manual_seed(0)
    head = TokenPrediction(model[0].model, folder)
    decoder = EnhancedDecoder.for_model(model)
    with attached(model, prediction=head, decoder=decoder):
        model.double().eval()
        loss = RetroMaeLoss(model, head, decoder, masked=0.3, decoder_masked=0.5)
        value = loss(tokens_of(model, TEXTS[rank::world]))
        sum_gradients(model.parameters())
        return value.item(), {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


if __name__ == "__main__":
    rank, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(gradients_of(folder, rank, 2), folder.with_name(f"rank-{rank}.pt"))
    torch.distributed.barrier()
    disband()
