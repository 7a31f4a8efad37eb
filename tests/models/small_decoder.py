"""A plain transformers folder of a Qwen3 in miniature with a tokenizer over single bytes, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

END = "<|endoftext|>"
TEXTS = [
    "今天天气很好",
    "退货怎么办",
    "猫",
    "How do I reset my password?",
    "订单已经发货，可是物流信息三天没有更新，请帮我查一下。",
]


def write_decoder(folder: Path, tokenizer: str = "PreTrainedTokenizerFast", *, closes: bool = False) -> Path:
    import torch
    from transformers import Qwen3Config, Qwen3Model

    wrapped = _tokenizer(tokenizer, closes)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(wrapped),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=64,
        max_position_embeddings=256,
        initializer_range=0.2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},  # Qwen3's, which is no default
    )
    Qwen3Model(config).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


def _tokenizer(kind: str, closes: bool) -> Any:
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {END: 0, **{letter: index for index, letter in enumerate(letters, start=1)}}
    merges = [("ä", "»")]  # two bytes that begin some Chinese characters
    vocabulary["ä»"] = len(vocabulary)
    special = {"eos_token": END, "pad_token": END}
    if kind == "Qwen2Tokenizer":
        return transformers.Qwen2Tokenizer(vocab=vocabulary, merges=merges, **special)
    backend = Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END])
    backend.post_processor = (
        processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 0)])
        if closes
        else processors.ByteLevel(trim_offsets=False)
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special)
