"""Decoders as text encoders: a text's vector is that of its last token, which must always be the same one.

Wang et al. 2024 (arXiv:2401.00368), and the shape of Qwen3-Embedding (arXiv:2506.05176): an end token closes every
text, and padding stands on the left, so that the last position of a batch is every text's last token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m3e.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def close_texts(model: SentenceTransformer, name: str) -> None:
    """Let the model's tokenizer close every text by its end token and pad on the left, also once it is saved.

    Args:
        name: for messages.

    Raises:
        ModelError: the tokenizer has no end token, or is not a fast one.
    """
    from tokenizers import processors

    tokenizer: Any = model.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if tokenizer.eos_token is None or backend is None:
        raise ModelError(
            f"{name}: pooling lasttoken wants a fast tokenizer with an end token, which closes every text; "
            f"{type(tokenizer).__name__} has none"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if _can_pad_left(model):
        tokenizer.padding_side = "left"
        tokenizer.init_kwargs["padding_side"] = "left"  # what is saved is what a tokenizer was made with
    if tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id:
        return
    closing = processors.TemplateProcessing(
        single=f"$A {tokenizer.eos_token}", special_tokens=[(tokenizer.eos_token, tokenizer.eos_token_id)]
    )
    before = backend.post_processor
    backend.post_processor = closing if before is None else processors.Sequence([before, closing])


def _can_pad_left(model: SentenceTransformer) -> bool:
    """Positions that are learned (GPT-2) count the padding, those that turn (RoPE) tell only distances."""
    config = model[0].model.config
    return any(getattr(config, name, None) for name in ("rope_parameters", "rope_theta", "rope_scaling"))
