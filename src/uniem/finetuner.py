"""uniem's FineTuner: its parameter names on m3e's."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from m3e.training import FineTuner as M3EFineTuner
from m3e.training.strategies import FullTraining, Strategy

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class FineTuner(M3EFineTuner):
    """``FineTuner(name, dataset=…)`` and ``FineTuner.from_pretrained(name, dataset=…)``, then ``.run(epochs=1)``.

    ``model_type`` is not needed any more: what a model is, is read from its folder.
    """

    def __init__(
        self, model: Any, tokenizer: Any = None, dataset: Any = None, model_type: Any = None, **options: Any
    ) -> None:
        if tokenizer is not None and dataset is None:
            dataset, tokenizer = tokenizer, None
        _note_unused(tokenizer=tokenizer, model_type=model_type)
        super().__init__(model, dataset, **options)

    @classmethod
    def from_pretrained(
        cls, model_name_or_path: Any, dataset: Any, model_type: Any = None, **options: Any
    ) -> FineTuner:
        """A fine-tuner of a pre-trained model."""
        _note_unused(model_type=model_type)
        return cls(model_name_or_path, dataset=dataset, **options)

    def run(  # type: ignore[override]
        self,
        temperature: float = 0.05,
        training_strategy: Strategy | None = None,
        lr: float | None = None,
        weight_decay: float = 1e-3,
        num_warmup_steps: float | None = None,
        batch_size: int = 64,
        max_length: int | None = None,
        drop_last: bool = False,
        shuffle: bool = True,
        num_workers: int = 0,
        mixed_precision: Any = "auto",
        gradient_accumulation_steps: int = 1,
        accelerator_kwargs: dict[str, Any] | None = None,
        epochs: int = 3,
        save_on_epoch_end: bool = False,
        num_max_checkpoints: int = 1,
        log_with: Any = None,
        seed: int | None = 42,
        epoch_end_callbacks: Any = None,
        output_dir: Any = "finetuned-model",
        **misspelt: Any,
    ) -> SentenceTransformer:
        """Train and save into ``output_dir/model``; the tuned ``SentenceTransformer``."""
        output_dir = _old_spelling(misspelt, "ouptut_dir", output_dir, "output_dir")
        if misspelt:
            raise TypeError(f"run() got unexpected arguments: {', '.join(misspelt)}")
        _note_unused(accelerator_kwargs=accelerator_kwargs, save_on_epoch_end=save_on_epoch_end or None)
        precision = str(getattr(mixed_precision, "value", mixed_precision))
        return super().run(
            output_dir,
            model_subfolder="model",
            epoch_end=list(epoch_end_callbacks or ()),
            temperature=temperature,
            strategy=training_strategy or FullTraining(),
            lr=lr,
            weight_decay=weight_decay,
            warmup=0.1 if num_warmup_steps is None else num_warmup_steps,
            schedule="cosine",
            batch_size=batch_size,
            max_length=max_length,
            drop_last=drop_last,
            shuffle=shuffle,
            num_workers=num_workers,
            precision="fp32" if precision == "no" else precision,
            gradient_accumulation_steps=gradient_accumulation_steps,
            epochs=epochs,
            keep_checkpoints=num_max_checkpoints,
            log_with=(log_with,) if isinstance(log_with, str) else tuple(log_with or ()),
            seed=42 if seed is None else seed,
        )


def _old_spelling(given: dict[str, Any], old: str, value: Any, new: str) -> Any:
    if old not in given:
        return value
    warnings.warn(f"{old} is now spelt {new}", DeprecationWarning, stacklevel=3)
    return given.pop(old)


def _note_unused(**values: Any) -> None:
    for name, value in values.items():
        if value is not None:
            warnings.warn(f"{name} is not used any more", DeprecationWarning, stacklevel=3)
