"""Looks at a model while it trains: the general check and small evaluation sets; the best weights are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3e.catalogue.local import data_folder
from m3e.errors import SettingsError
from m3e.evaluation import evaluate
from m3e.evaluation.general import general_check
from m3e.evaluation.local_files import LocalFolder
from m3e.evaluation.tasks import did_you_mean
from m3e.files import atomic_file, read_json, write_json
from m3e.inference import Encoder
from m3e.training.forward import evaluation_form
from m3e.training.gather import from_first_process, is_first_process, wait_for_all
from m3e.training.guard import load_trained, trained_weights

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from m3e.training.recipe_parts import Watch

LOOKS = 10


class Looks:
    """What was seen of a model at steps of its training.

    Args:
        folder: where the record and the best weights lie, for a resumed run too.
        watch: what is looked at.
        total: steps of the stage.
    """

    def __init__(
        self, model: SentenceTransformer, watch: Watch, folder: Path, total: int, say: Callable[[str], None] = print
    ) -> None:
        self._model = model
        self._watch = watch
        self._say = say
        self._record = folder / "looks.json"
        self._weights = folder / "best.safetensors"
        self._every = max(1, total // LOOKS) if watch.every is None else watch.every
        self._total = total
        self._start = trained_weights(model) if watch.keep_best else {}
        self.seen: list[dict[str, Any]] = []

    @property
    def best(self) -> dict[str, Any]:
        """The look with the highest score, the earliest of equals."""
        return max(self.seen, key=lambda look: look["score"])

    def is_time(self, step: int) -> bool:
        """Whether to look after ``step``."""
        return self._every > 0 and (step % self._every == 0 or step >= self._total)

    def look(self, step: int) -> dict[str, Any]:
        """Measure the model as it is now, keep its weights where they are the best so far, say what was seen."""
        started = time.perf_counter()
        training = self._model.training
        with evaluation_form(self._model):
            found = from_first_process(lambda: measure(self._model, self._watch.tasks))
        self._model.train(training)
        look = {"step": step, **found, "seconds": round(time.perf_counter() - started, 2)}
        self.seen = [earlier for earlier in self.seen if earlier["step"] < step] + [look]
        if self._watch.keep_best and step and self.best is look and is_first_process():
            self._keep()
        if is_first_process():
            write_json(self._record, self.seen)
        figures = ", ".join(f"{name} {value:.4f}" for name, value in found.items() if name != "score")
        self._say(f"step {step}: {figures}; mean {found['score']:.4f}")
        return look

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the last looks were all no better than the best."""
        patience = self._watch.patience
        if patience is None or not self.seen:
            return False
        return len(self.seen) - 1 - self.seen.index(self.best) >= patience

    def resume(self, step: int) -> None:
        """Take up the record of a stopped run up to ``step``."""
        if self._record.is_file():
            self.seen = [look for look in read_json(self._record) if look["step"] <= step]

    def restore_best(self) -> int | None:
        """Put the best weights back where that is asked for; their step, ``None`` where the last ones stay."""
        from safetensors.torch import load_file

        if not self._watch.keep_best or not self.seen or self.best["step"] == self.seen[-1]["step"]:
            return None
        wait_for_all()
        step = int(self.best["step"])
        load_trained(self._model, load_file(self._weights) if step else self._start)
        return step

    def _keep(self) -> None:
        from safetensors.torch import save_file

        with atomic_file(self._weights) as temporary:
            save_file(trained_weights(self._model), temporary)


def check_watched(tasks: Sequence[str], key: str) -> None:
    """Refuse tasks whose files are not in the data folder.

    Args:
        key: of the recipe, for the message.

    Raises:
        SettingsError: names the key, the task and what is there.
    """
    if not tasks:
        return
    folder = data_folder()
    if folder is None:
        raise SettingsError(f"{key} names {tasks[0]}, but there is no data folder; set M3E_DATA to it")
    there = [f"{name}.{split}" for name, split in LocalFolder.open(folder).splits()]
    for name in tasks:
        if name not in there:
            raise SettingsError(f"{key} names {name!r}, which {folder} has not{did_you_mean(name, there)}")


def measure(model: SentenceTransformer, tasks: tuple[str, ...]) -> dict[str, float]:
    """Scores, 0..1: ``general``, one a task, and ``score``, their mean.

    Args:
        tasks: of suite ``local`` over the data folder.

    Raises:
        SettingsError: a task's files are not there.
    """
    found = {"general": general_check(Encoder(model)).score}
    if tasks:
        check_watched(tasks, "watch.tasks")
        results = evaluate(model, list(tasks), suite="local", data=data_folder(), dtype="auto")
        for name, reason in results.missing.items():
            raise SettingsError(f"watch.tasks names {name}, which cannot be looked at: {reason}")
        found |= {score.task: score.score for score in results.results}
    return {**found, "score": sum(found.values()) / len(found)}
