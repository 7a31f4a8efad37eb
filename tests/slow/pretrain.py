"""A pre-training stage in a process of its own: ``pretrain.py STAGE MODEL DATA FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from m3e.training.recipe import MlmStage, RetroMaeStage
from m3e.training.recipe_parts import Schedule, Texts, Watch
from m3e.training.stages.stage import StageWork
from m3e.training.stages.table import run_stage


def main() -> None:
    name = sys.argv[1]
    model, data, folder = map(Path, sys.argv[2:5])
    stage = {"mlm": MlmStage, "retromae": RetroMaeStage}[name]
    settings = stage(
        stage=name, batch=Texts(size=16), schedule=Schedule(epochs=4, lr=1e-3), watch=Watch(every=10, log_with=())
    )
    work = StageWork(name, folder, model, model, data, device="cpu", precision="fp32", checkpoint_steps=3, resume=True)
    run_stage(settings, work)


if __name__ == "__main__":
    main()
