"""One of two processes of the gather test: ``gather_worker.py RANK PORT FOLDER``; writes its gradients."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from m3e import load
from m3e.training.batches import PlanOptions, plan_batches
from m3e.training.cached_loss import CachedTextLoss
from m3e.training.forward import training_form
from m3e.training.gather import disband, sum_gradients
from m3e.training.planned_loader import PlannedBatches
from m3e.training.token_store import TokenStore
from tests.training.loss_cases import CASES, loss_of


def gradients_of(folder: Path, name: str, rank: int, world: int) -> tuple[float, dict[str, torch.Tensor]]:
    """A case's loss and the summed gradients of its set's first batch, in float64."""
    case = CASES[name]
    model = load(folder / "model", device="cpu").double().eval()
    sets = [each for each in TokenStore.open(folder / "tokens").sets if each.name == case.kind.value]
    batches = PlannedBatches(plan_batches(sets, PlanOptions(12)), sets, rank, world)
    inner = loss_of(case, model, sets[0].keys)
    loss = CachedTextLoss(model, inner, token_budget=100, rows_at_once=5)
    with training_form(model):
        value = loss(batches[0])
        value.backward()
    sum_gradients(model.parameters())
    return value.item(), {key: each.grad for key, each in model.named_parameters() if each.grad is not None}


if __name__ == "__main__":
    rank, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = {name: gradients_of(folder, name, rank, 2) for name in sys.argv[4:]}
    torch.save(found, folder / f"rank-{rank}.pt")
    torch.distributed.barrier()
    disband()
