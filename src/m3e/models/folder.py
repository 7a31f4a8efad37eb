"""Writing model folders that new and old sentence-transformers both read.

sentence-transformers >= 5.4 writes module paths and transformers 5 a tokenizer class that
older releases do not know. What is written here has the old names, which both read:
docs/architecture.md, Traps 3.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3e.files import atomic_folder, read_json, write_json, write_marker

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

_POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
}
_LATER_POOLING_KEYS = {
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
POOLING_MODES = (*_POOLING_KEYS, *_LATER_POOLING_KEYS)
_OLD_ORDER = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")

_LATER_DENSE_DEFAULTS = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
_TOKENIZER_KEYS_OF_TRANSFORMERS_5 = ("backend", "is_local", "local_files_only")


def save(
    model: SentenceTransformer, folder: Path, *, card: str | None = None, step: str = "model", **facts: Any
) -> Path:
    """Write ``model`` to ``folder``, atomically, readable by sentence-transformers 5.1 and later.

    Args:
        model: modules, prompts, maximum length, normalisation and similarity are all saved.
        folder: entries of the same names are replaced, others stay.
        card: the text of the model card (README.md).
        step: what made it, written with ``facts`` into the folder's marker.
    """
    with atomic_folder(folder) as temporary:
        with quiet_libraries():
            model.save_pretrained(str(temporary), create_model_card=False, safe_serialization=True)
        make_compatible(temporary)
        if card is not None:
            (temporary / "README.md").write_text(card, encoding="utf-8")
        write_marker(temporary, step, **facts)
    return folder


def write_transformer(
    folder: Path,
    encoder: PreTrainedModel,
    tokenizer: Tokenizer,
    *,
    special_tokens: dict[str, str],
    max_length: int,
    prompts: dict[str, str] | None = None,
    pooling: str = "mean",
    lower_case: bool = False,
) -> None:
    """Write an encoder and a ``tokenizers`` tokenizer as a sentence-transformers folder with pooling and normalisation.

    Args:
        folder: an existing folder.
        special_tokens: ``pad_token``, ``cls_token``, … by their transformers names.
        max_length: in tokens, special ones included.
        pooling: one of :data:`POOLING_MODES`.
    """
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        **special_tokens,
    )
    with quiet_libraries():
        encoder.save_pretrained(str(folder))
        wrapped.save_pretrained(str(folder))
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": lower_case})
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    write_json(
        folder / "modules.json",
        [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{name}"}
            for index, (name, path) in enumerate(modules)
        ],
    )
    for _, path in modules[1:]:
        (folder / path).mkdir(exist_ok=True)
    write_json(folder / "1_Pooling" / "config.json", _pooling_config(int(encoder.config.hidden_size), (pooling,), True))
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts or {}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )
    make_compatible(folder)


def make_compatible(folder: Path) -> None:
    """Rewrite the configuration files of a saved folder so that old and new readers agree."""
    modules = read_json(folder / "modules.json")
    for module in modules:
        name = module["type"].rsplit(".", 1)[-1]
        if module["type"].startswith("sentence_transformers."):
            module["type"] = f"sentence_transformers.models.{name}"
        path = folder / module["path"]
        if name == "Pooling":
            _rewrite_pooling(path / "config.json")
        elif name == "Transformer":
            _rewrite_transformer(path)
        elif name == "Dense":
            _rewrite_dense(path / "config.json")
        elif name == "Normalize":
            path.mkdir(exist_ok=True)
    write_json(folder / "modules.json", modules)
    settings_path = folder / "config_sentence_transformers.json"
    settings = read_json(settings_path)
    settings.pop("model_type", None)
    write_json(settings_path, settings)


def _rewrite_pooling(path: Path) -> None:
    config = read_json(path)
    if "pooling_mode" not in config:
        return
    modes = config["pooling_mode"]
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    if list(modes) != [mode for mode in _OLD_ORDER if mode in modes]:
        return  # old readers join several poolings in their own order, so this one has no old form
    dimension = config.get("embedding_dimension", config.get("word_embedding_dimension"))
    write_json(path, _pooling_config(dimension, modes, config.get("include_prompt", True)))


def _pooling_config(dimension: int, modes: tuple[str, ...], include_prompt: bool) -> dict[str, Any]:
    """The old configuration: one boolean a mode, the later modes only where they are used."""
    config: dict[str, Any] = {"word_embedding_dimension": dimension}
    config |= {key: mode in modes for mode, key in _POOLING_KEYS.items()}
    config |= {key: True for mode, key in _LATER_POOLING_KEYS.items() if mode in modes}
    return config | {"include_prompt": include_prompt}


def _rewrite_dense(path: Path) -> None:
    """Leave out later keys that say the default; old readers stop at a key that they do not know."""
    config = read_json(path)
    if config.items() >= _LATER_DENSE_DEFAULTS.items():
        write_json(path, {key: value for key, value in config.items() if key not in _LATER_DENSE_DEFAULTS})


def _rewrite_transformer(path: Path) -> None:
    tokenizer_path = path / "tokenizer_config.json"
    tokenizer = read_json(tokenizer_path)
    if tokenizer.get("tokenizer_class") == "TokenizersBackend":
        tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    for key in _TOKENIZER_KEYS_OF_TRANSFORMERS_5:
        tokenizer.pop(key, None)
    if isinstance(tokenizer.get("extra_special_tokens"), list):  # transformers 4 reads a dict of that name only
        tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens")
    write_json(tokenizer_path, tokenizer)
    _rewrite_rotations(path / "config.json")
    settings_path = path / "sentence_bert_config.json"
    settings = read_json(settings_path) if settings_path.is_file() else {}
    length = settings.get("max_seq_length") or tokenizer.get("model_max_length") or _positions(path)
    write_json(
        settings_path,
        {"max_seq_length": length, "do_lower_case": bool(settings.get("do_lower_case", False))},
    )


def _rewrite_rotations(path: Path) -> None:
    """Say a decoder's rotary positions in transformers 4's words too; it takes its defaults where it finds none."""
    config = read_json(path)
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" not in rope:  # none, or some for each kind of layer
        return
    config["rope_theta"] = rope["rope_theta"]
    if rope.get("rope_type", "default") != "default":
        config["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    write_json(path, config)


def _positions(path: Path) -> int | None:
    value = read_json(path / "config.json").get("max_position_embeddings")
    return int(value) if value else None


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the loading bars and reports of transformers and sentence-transformers inside the block."""
    from transformers.utils import logging as transformers_logging

    names = ("sentence_transformers", "transformers")
    levels = {name: logging.getLogger(name).level for name in names}
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
