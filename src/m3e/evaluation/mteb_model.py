"""Our encoder behind mteb's protocol, under a name and revision that no other model shares.

mteb gives every local model one name and then serves one model's cached scores for another;
the revision here is a hash of everything that decides the vectors.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3e.files import json_safe, read_marker
from m3e.inference import ApiEncoder, TfidfEncoder
from m3e.inference.encoder import DOCUMENT_PROMPTS, Encoder, Vectors
from m3e.models.fingerprint import fingerprint

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_REVISION_DIGITS = 16
_MODULE_KEYS = ("pooling_mode", "include_prompt", "do_lower_case", "in_features", "out_features", "activation_function")
_CONFIG_ORIGINS = ("architectures", "dtype", "torch_dtype", "transformers_version")


class MtebEncoder:
    """An mteb ``EncoderProtocol`` over :class:`m3e.Encoder`.

    Queries and documents get the model's prompts for them. Tasks with two like sides (STS,
    classification) get the ``query`` prompt where the model has prompts for both sides, as e5
    is meant to be used; a model with an instruction for queries only gets none there.

    Attributes:
        prompts: whether any prompts are put before texts.
    """

    prompts: bool = True

    def __init__(self, encoder: Encoder, name: str) -> None:
        from mteb.models import ModelMeta

        self.encoder = encoder
        self.revision = content_revision(encoder.model)
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": name if "/" in name else f"m3e/{name}",
                "revision": self.revision,
                "embed_dim": encoder.dimension,
                "max_tokens": getattr(encoder.model, "max_seq_length", None),
                "framework": ["Sentence Transformers", "PyTorch"],
            }
        )

    def encode(self, inputs: Any, *, prompt_type: Any = None, **_: Any) -> Vectors:
        """Vectors of all texts in a data loader of mteb's batches, in order."""
        texts = [text for batch in inputs for text in batch["text"]]
        if not self.prompts:
            return self.encoder.encode(texts, prompt="")
        side = getattr(prompt_type, "value", prompt_type)
        if side == "query":
            return self.encoder.encode_query(texts)
        if side == "document":
            return self.encoder.encode_document(texts)
        return self.encoder.encode(texts, prompt_name="query" if self._has_both_prompts() else None)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """The model's similarity (cosine unless it names another) of all pairs."""
        value: torch.Tensor = self.encoder.model.similarity(embeddings1, embeddings2)
        return value

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """The model's similarity of pairs at the same place."""
        value: torch.Tensor = self.encoder.model.similarity_pairwise(embeddings1, embeddings2)
        return value

    @property
    def has_prompts(self) -> bool:
        """Whether the model has prompts that can be switched off."""
        return any((self.encoder.model.prompts or {}).values())

    def _has_both_prompts(self) -> bool:
        prompts = self.encoder.model.prompts or {}
        return bool(prompts.get("query")) and any(prompts.get(name) for name in DOCUMENT_PROMPTS)


def content_revision(model: SentenceTransformer) -> str:
    """16 hex digits over the weights, tokenizer, modules, prompts and maximum length of a model."""
    digest = hashlib.sha256(fingerprint(model).encode())
    digest.update(_tokenizer_text(model).encode())
    settings = {
        "modules": [[type(module).__name__, _module_settings(module)] for module in model],
        "default_prompt_name": model.default_prompt_name,
        "max_seq_length": getattr(model, "max_seq_length", None),
        "truncate_dim": getattr(model, "truncate_dim", None),
    }
    digest.update(json.dumps(json_safe(settings), sort_keys=True, default=str).encode())
    return digest.hexdigest()[:_REVISION_DIGITS]


def _module_settings(module: Any) -> dict[str, Any]:
    """What a module's vectors depend on beside its weights."""
    config = module.get_config_dict() if hasattr(module, "get_config_dict") else {}
    settings = {key: value for key, value in config.items() if key in _MODULE_KEYS}
    inner = getattr(getattr(module, "model", None), "config", None)
    if inner is not None:
        facts = inner.to_dict().items()
        settings["config"] = {key: value for key, value in facts if key[0] != "_" and key not in _CONFIG_ORIGINS}
    return settings


def _tokenizer_text(model: SentenceTransformer) -> str:
    """The tokenizer as text, without the padding and truncation that its last call left in it."""
    tokenizer: Any = getattr(model, "tokenizer", None)
    inner = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(inner, "to_str"):
        state = json.loads(inner.to_str())
        state.pop("padding", None)
        state.pop("truncation", None)
        return json.dumps(state, ensure_ascii=False, sort_keys=True)
    if hasattr(tokenizer, "get_vocab"):
        return json.dumps(sorted(tokenizer.get_vocab().items()), ensure_ascii=False)
    return type(tokenizer).__name__


def model_name(model: Any) -> str:
    """A short name for results: the local model's, the folder's, the hub id, or ``unnamed``."""
    from m3e.models.loading import resolve_name

    if isinstance(model, ApiEncoder | TfidfEncoder):
        return model.name
    if isinstance(model, Encoder):
        model = model.model
    if hasattr(model, "mteb_model_meta"):
        return str(model.mteb_model_meta.name)
    text = model if isinstance(model, str | Path) else _origin(model)
    marker = read_marker(Path(text)) if Path(text).is_dir() else None
    if marker is not None and marker["m3e"] == "model" and "name" in marker:
        return str(marker["name"])
    return resolve_name(text) or "unnamed"


def _origin(model: Any) -> str:
    """The folder or hub id that a loaded model came from."""
    inner = getattr(next(iter(model), None), "model", None)
    return str(getattr(inner, "name_or_path", "") or getattr(model, "model_name_or_path", "") or "")
