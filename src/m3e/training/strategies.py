"""What is trained: everything, biases only, low-rank adapters, or new prefix tokens."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m3e.errors import SettingsError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class FullTraining:
    """Every parameter trains."""

    name = "full"

    def prepare(self, model: SentenceTransformer) -> None:
        """Mark every parameter as trained."""
        model.requires_grad_(True)

    def finish(self, model: SentenceTransformer) -> None:
        """Nothing to undo."""


@dataclass(frozen=True)
class BitFitTraining:
    """Only parameters whose name contains one of ``keywords`` train (Ben Zaken et al. 2022, arXiv:2106.10199)."""

    keywords: str | tuple[str, ...] = "bias"
    name = "bitfit"

    def prepare(self, model: SentenceTransformer) -> None:
        """Freeze what has none of the keywords in its name.

        Raises:
            SettingsError: no parameter has.
        """
        keywords = (self.keywords,) if isinstance(self.keywords, str) else self.keywords
        trained = 0
        for name, parameter in model.named_parameters():
            parameter.requires_grad = any(keyword in name for keyword in keywords)
            trained += parameter.requires_grad
        if not trained:
            raise SettingsError(
                f"no parameter of the model has {' or '.join(keywords)} in its name; nothing would train"
            )

    def finish(self, model: SentenceTransformer) -> None:
        """Thaw the model."""
        model.requires_grad_(True)


@dataclass(frozen=True)
class LoraTraining:
    """Low-rank adapters on every linear layer, merged at the end (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    name = "lora"

    def prepare(self, model: SentenceTransformer) -> None:
        """Wrap the transformer with adapters.

        Raises:
            SettingsError: the model has no transformer.
        """
        from peft import LoraConfig, get_peft_model

        encoder = transformer_of(model, "LoRA")
        config = LoraConfig(r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules="all-linear")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that it gave up
            model[0].model = get_peft_model(encoder, config)

    def finish(self, model: SentenceTransformer) -> None:
        """Merge the adapters, so that a plain model is left."""
        model[0].model = model[0].model.merge_and_unload()
        model.requires_grad_(True)


@dataclass(frozen=True)
class PrefixTraining:
    """New special tokens are put before every query, and (mostly) only they train.

    The prefix is saved as the model's ``query`` prompt, so that inference puts it there too.

    Args:
        additional_special_tokens: the new tokens.
        prefix: the text put before a query; by default all the new tokens in order.
        only_train_additional_special_tokens: freeze everything else.
    """

    additional_special_tokens: tuple[str, ...] | list[str]
    prefix: str | None = None
    only_train_additional_special_tokens: bool = True
    name = "prefix"

    @property
    def text(self) -> str:
        """What is put before a query."""
        return self.prefix if self.prefix is not None else "".join(self.additional_special_tokens)

    def prepare(self, model: SentenceTransformer) -> None:
        """Add the tokens, resize the embeddings, and freeze all other rows.

        Raises:
            SettingsError: the model has no transformer, or no token is new.
        """
        encoder = transformer_of(model, "prefix training")
        old = len(model.tokenizer)
        added = model.tokenizer.add_special_tokens({"additional_special_tokens": list(self.additional_special_tokens)})
        if not added:
            raise SettingsError("none of the additional special tokens is new to the model's tokenizer")
        if len(model.tokenizer) > encoder.get_input_embeddings().num_embeddings:
            encoder.resize_token_embeddings(len(model.tokenizer), mean_resizing=False)
        model.prompts = {**model.prompts, "query": self.text + (model.prompts.get("query") or "")}
        if not self.only_train_additional_special_tokens:
            return
        model.requires_grad_(False)
        weight = encoder.get_input_embeddings().weight
        weight.requires_grad = True
        weight.register_hook(lambda gradient: _only_rows_from(gradient, old))

    def finish(self, model: SentenceTransformer) -> None:
        """Thaw the model."""
        hooks = model[0].model.get_input_embeddings().weight._backward_hooks
        if hooks:
            hooks.clear()
        model.requires_grad_(True)


Strategy = FullTraining | BitFitTraining | LoraTraining | PrefixTraining


def _only_rows_from(gradient: torch.Tensor, first: int) -> torch.Tensor:
    gradient = gradient.clone()
    gradient[:first] = 0
    return gradient


def transformer_of(model: SentenceTransformer, purpose: str) -> Any:
    """The model's inner transformers encoder.

    Raises:
        SettingsError: it has none (a static model).
    """
    encoder = getattr(model[0], "model", None)
    if encoder is None:
        raise SettingsError(f"{purpose} needs a transformer; {type(model[0]).__name__} has none")
    return encoder
