"""Texts to token ids, once, as the model's own tokenizer makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Tokens:
    """Token ids of texts.

    Attributes:
        ids: of each text, special tokens included, cut to the model's length. A model that does not work on
            token ids has the code points of the text here.
        cut: whether each text was longer than the model's length.
        prompt: tokens at the start of each text that the model's pooling leaves out; 0 for nearly all models.
    """

    ids: list[list[int]]
    cut: list[bool]
    prompt: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return list(map(len, self.ids))

    def take(self, indices: Sequence[int]) -> Tokens:
        """The tokens of some of the texts, in the order of ``indices``."""
        return Tokens(
            [self.ids[index] for index in indices],
            [self.cut[index] for index in indices],
            [self.prompt[index] for index in indices],
        )

    @staticmethod
    def join(parts: Sequence[Tokens]) -> Tokens:
        """The tokens of all parts, one after the other."""
        return Tokens(
            [ids for part in parts for ids in part.ids],
            [cut for part in parts for cut in part.cut],
            [prompt for part in parts for prompt in part.prompt],
        )


class Tokeniser:
    """Tokenise texts as ``model`` does, without padding."""

    def __init__(self, model: SentenceTransformer) -> None:
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding, Transformer

        self._model = model
        first: Any = model[0]
        self._lower_case = bool(getattr(first, "do_lower_case", False))
        self._static = isinstance(first, StaticEmbedding)
        self._by_characters = not isinstance(first, StaticEmbedding | Transformer)
        self._is_plain = isinstance(first, Transformer) and _has_plain_tokenizer(model)
        self._leaves_prompt_out = not all(getattr(module, "include_prompt", True) for module in list(model)[1:])

    def __call__(self, texts: Sequence[str], prefix: str = "") -> Tokens:
        """The tokens of each text, with ``prefix`` before it."""
        tokens = self._plain([prefix + text for text in texts] if prefix else list(texts))
        if prefix and self._leaves_prompt_out:
            length = len(self._plain([prefix]).ids[0]) - 1
            return Tokens(tokens.ids, tokens.cut, [length] * len(tokens))
        return tokens

    def _plain(self, texts: list[str]) -> Tokens:
        if self._by_characters:
            return _whole([list(map(ord, text)) for text in texts])
        if self._static:
            encodings = self._model.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            return _whole([encoding.ids for encoding in encodings])
        return self._by_transformers(texts)

    def _by_transformers(self, texts: list[str]) -> Tokens:
        if self._lower_case:
            texts = [text.lower() for text in texts]
        limit = self._model.max_seq_length
        encodings = self._directly(texts, limit) if self._is_plain else self._by_call(texts, limit)
        return Tokens(
            [encoding.ids for encoding in encodings],
            [bool(encoding.overflowing) for encoding in encodings],
            [0] * len(encodings),
        )

    def _directly(self, texts: list[str], limit: int | None) -> Any:
        """By the Rust tokenizer, as transformers sets it up, without the offsets, which nobody reads."""
        from transformers.tokenization_utils_base import TruncationStrategy
        from transformers.utils import PaddingStrategy

        tokenizer: Any = self._model.tokenizer
        strategy = TruncationStrategy.DO_NOT_TRUNCATE if limit is None else TruncationStrategy.LONGEST_FIRST
        tokenizer.set_truncation_and_padding(PaddingStrategy.DO_NOT_PAD, strategy, limit, 0, None, None)
        rust = tokenizer.backend_tokenizer
        if rust.encode_special_tokens != tokenizer.split_special_tokens:
            rust.encode_special_tokens = tokenizer.split_special_tokens
        if len(texts) == 1:  # here, and not in a thread that would take a processor from the model's
            return [rust.encode(texts[0])]
        return rust.encode_batch_fast(texts)

    def _by_call(self, texts: list[str], limit: int | None) -> Any:
        """By transformers, for tokenizers with ways of their own."""
        tokenizer: Any = self._model.tokenizer
        options = {"padding": False, "return_attention_mask": False, "return_token_type_ids": False}
        encoded = tokenizer(texts, truncation=limit is not None, max_length=limit, **options)
        if encoded.encodings:
            return encoded.encodings
        whole = encoded if limit is None else tokenizer(texts, truncation=False, verbose=False, **options)
        pairs = zip(encoded["input_ids"], whole["input_ids"], strict=True)
        return [_Encoding(ids, len(ids) < len(full)) for ids, full in pairs]


@dataclass(frozen=True)
class _Encoding:
    """What a tokenizer in Python gives, in the form of one in Rust."""

    ids: list[int]
    overflowing: bool


def _has_plain_tokenizer(model: SentenceTransformer) -> bool:
    """Whether the model's tokenizer is the Rust one with nothing of its own around it."""
    from transformers.tokenization_utils_tokenizers import TokenizersBackend

    kind = type(model.tokenizer)
    return isinstance(model.tokenizer, TokenizersBackend) and all(
        getattr(kind, name) is getattr(TokenizersBackend, name)
        for name in ("__call__", "_encode_plus", "set_truncation_and_padding")
    )


def _whole(ids: list[list[int]]) -> Tokens:
    return Tokens(ids, [False] * len(ids), [0] * len(ids))
