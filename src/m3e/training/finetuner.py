"""Fine-tuning in three lines of Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3e.data.reading import RecordSet, read_records, read_splits
from m3e.errors import DataError
from m3e.records import Kind
from m3e.training.finetune import Destination, finetune
from m3e.training.options import FineTuneOptions
from m3e.training.report import FineTuneReport

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_OUTPUT = "finetuned-model"


class FineTuner:
    """Fine-tunes an embedding model on a user's records and says whether it got better.

    ::

        from m3e import FineTuner

        finetuner = FineTuner("m3e-small", dataset="faq.jsonl")
        model = finetuner.run(epochs=1)

    Args:
        model: a name, folder, hub id, or a loaded ``SentenceTransformer`` (trained in place).
        dataset: a file, a folder of files, a hub id, a Hugging Face ``Dataset``, ``DatasetDict`` or
            ``IterableDataset``, or a list of dicts or records; a dict or ``DatasetDict`` with ``train`` and
            ``dev`` or ``validation`` brings its own validation rows.
        validation: rows to judge by, in any of these forms; without them some rows are held out.
        columns: record field to the user's column, for names that m3e does not know.
        record_type: the kind that the records must be of (``pair``, ``triplet``, ``scored_pair``, ``ranked``).
        device: ``cpu``, ``cuda``, …; ``None`` chooses.

    Attributes:
        report: the figures of the last :meth:`run`.

    Raises:
        DataError: records that cannot be used, or of another kind than ``record_type``.
        ModelError: the model cannot be loaded.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | SentenceTransformer,
        dataset: Any,
        *,
        validation: Any = None,
        columns: Mapping[str, str] | None = None,
        record_type: str | Kind | None = None,
        device: str | None = None,
    ) -> None:
        self.data, own_validation = read_splits(dataset, columns=columns)
        self.validation: RecordSet | None = own_validation
        if validation is not None:
            self.validation = read_records(validation, columns=columns, name="validation")
        _check_kind(self.data, record_type)
        self.model, self.base, self._licence = _load(model, device)
        self.report: FineTuneReport | None = None

    @classmethod
    def from_pretrained(cls, model_name_or_path: str | os.PathLike[str], dataset: Any, **options: Any) -> FineTuner:
        """The same as ``FineTuner(model_name_or_path, dataset, …)``, as uniem spelt it."""
        return cls(model_name_or_path, dataset, **options)

    def run(
        self,
        output_dir: str | os.PathLike[str] = DEFAULT_OUTPUT,
        *,
        options: FineTuneOptions | None = None,
        resume: bool = False,
        overwrite: bool = False,
        say: Callable[[str], None] = print,
        on_step: Callable[[int, int, float | None], None] | None = None,
        epoch_end: Sequence[Callable[[Any], None]] = (),
        model_subfolder: str | None = None,
        **settings: Any,
    ) -> SentenceTransformer:
        """Train, judge, keep the best, save; the tuned model, which ``SentenceTransformer(output_dir)`` loads too.

        Args:
            output_dir: refused where it holds files that a fine-tune did not write.
            options: all settings at once; ``settings`` override them one by one (see :class:`FineTuneOptions`).
            resume: go on from the newest checkpoint in ``output_dir``.
            overwrite: write beside files that are not ours.
            say: prints one line; ``lambda line: None`` keeps quiet.
            on_step: called after each step with its number, the total and the loss.
            epoch_end: functions called with the trainer after each epoch.
            model_subfolder: put the model into this folder inside ``output_dir``.

        Raises:
            OutputExistsError: ``output_dir`` holds something else.
            SettingsError: a setting is unknown or out of range.
            TrainingDivergedError: the loss is not a finite number.
        """
        folder = Path(output_dir)
        destination = Destination(
            folder, folder / model_subfolder if model_subfolder else None, resume=resume, overwrite=overwrite
        )
        self.report = finetune(
            self.model,
            self.data,
            replace(options or FineTuneOptions(), **settings),
            destination,
            base=self.base,
            validation=self.validation,
            licence=self._licence,
            say=say,
            on_step=on_step or (lambda step, total, loss: None),
            epoch_end=epoch_end,
        )
        for line in self.report.advice:
            say(line)
        say(f"saved to {destination.model_folder}")
        return self.model


def _check_kind(data: RecordSet, wanted: str | Kind | None) -> None:
    if wanted is not None and Kind(getattr(wanted, "value", wanted)) is not data.kind:
        raise DataError(f"{data.source} holds {data.kind.value} records, not {wanted}")


def _load(model: Any, device: str | None) -> tuple[SentenceTransformer, str, str]:
    """The model, its name and its licence."""
    if not isinstance(model, str | os.PathLike):
        return model, "the given model", "other"
    from m3e.models.loading import load, resolve_name
    from m3e.models.names import local_models

    name = resolve_name(model)
    known = local_models().get(name)
    return load(model, device=device), name, known.licence if known else "other"
