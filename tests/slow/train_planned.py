"""A run over planned batches in a process of its own: ``train_planned.py MODEL TOKENS OUT WEIGHTS [ranks…]``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformerTrainingArguments

from m3e import load
from m3e.training.batches import PlanOptions, plan_batches
from m3e.training.cached_loss import CachedTextLoss
from m3e.training.gather import processes
from m3e.training.guard import trained_weights
from m3e.training.loop import newest_checkpoint
from m3e.training.losses import InBatchSoftmaxLoss
from m3e.training.planned_loader import PlannedBatches
from m3e.training.planned_trainer import PlannedTrainer
from m3e.training.token_store import TokenStore


def main() -> None:
    model_folder, tokens, out, weights = map(Path, sys.argv[1:5])
    store = TokenStore.open(tokens)
    model = load(model_folder, device="cpu")
    if "--without-dropout" in sys.argv:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    plan = plan_batches(store.sets, PlanOptions(8, epochs=6))
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(out),
        num_train_epochs=1,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="steps",
        save_steps=3,
        save_total_limit=2,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
    )
    rank = arguments.process_index
    loss = CachedTextLoss(model, InBatchSoftmaxLoss(model, 0.05), token_budget=120, kept_tokens=120)
    trainer = PlannedTrainer(model, arguments, loss, PlannedBatches(plan, store.sets, rank, arguments.world_size))
    checkpoint = newest_checkpoint(out)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    assert processes() == arguments.world_size
    if rank == 0:
        save_file(trained_weights(model), weights)


if __name__ == "__main__":
    main()
