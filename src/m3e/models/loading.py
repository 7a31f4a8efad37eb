"""Loading a model by name, folder or hub id."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from m3e.errors import HubUnreachableError, ModelError, first_line
from m3e.files import hash_settings, read_json, read_marker
from m3e.models.adapter import base_of, is_adapter, write_whole
from m3e.models.decoders import close_texts
from m3e.models.folder import POOLING_MODES, quiet_libraries
from m3e.models.names import available_names, known_models, model_path
from m3e.models.peers import as_peer, peer_of
from m3e.models.written import written_once

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

HUB_TIMEOUT_SECONDS = 10
UNKNOWN_RATE_LIMIT = 0.5
_PROBE_TEXT = "今天天气很好，我们去公园散步。How to reset my password?"

_UNIEM_POOLINGS = {"cls": "cls", "last_mean": "mean", "last_weighted": "weightedmean"}
_UNIEM_POOLINGS_WITHOUT_MODULE = ("first_last_mean", "embedding_last_mean")
_UNIEM_KEYS = ("uniem_pooling_strategy", "uniem_embedding_strategy")


def load(
    name: str | os.PathLike[str],
    *,
    device: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    pooling: str | None = None,
) -> SentenceTransformer:
    """A ``SentenceTransformer`` with pooling, prompts, maximum length and normalisation set.

    Args:
        name: a local model's name (``m3e models`` lists them), a folder (of an adapter too), or a hub id.
        device: ``cpu``, ``cuda``, …; ``None`` chooses.
        revision: of a hub model.
        trust_remote_code: allow a hub model's own code.
        pooling: of a model whose files say none: ``mean``, ``cls``, ``lasttoken`` (for decoders: texts are then
            closed by the end token and padded on the left), …

    Raises:
        ModelError: no such model, a folder that does not hold one, or one whose files name another pooling.
        HubUnreachableError: the name is a hub id and the hub does not answer.
    """
    text = os.fspath(name)
    if text in known_models() and not Path(text).is_dir():
        return _checked_pooling(_load_folder(model_path(text), device), text, pooling)
    path = Path(text)
    if path.exists() or text.startswith((".", "/", "~")) or (os.sep != "/" and os.sep in text):
        found = _load_folder(path.expanduser(), device, pooling)
    else:
        _refuse_endpoint(text)
        found = _load_from_hub(text, device, revision, trust_remote_code, pooling)
    return _with_peers_settings(_checked_pooling(found, text, pooling), text)


def _checked_pooling(model: SentenceTransformer, name: str, pooling: str | None) -> SentenceTransformer:
    """``model`` unless its own files name another pooling than was asked for."""
    own = [getattr(module, "pooling_mode", None) for module in model if hasattr(module, "pooling_mode")]
    if pooling is not None and own and own[0] not in (pooling, (pooling,)):
        raise ModelError(f"{name} says itself that its pooling is {own[0]}; leave out pooling {pooling}")
    return model


def whole_folder(name: str | os.PathLike[str]) -> Path:
    """The folder of a whole model: a local one's, an adapter's (written once, with its base), or the folder itself.

    Raises:
        ModelError: there is none, or an adapter's base is missing or another one.
    """
    text = os.fspath(name)
    path = Path(text).expanduser()
    if not path.is_dir():
        return model_path(text)
    if not is_adapter(path):
        _check_holds_model(path)
        return path
    base = base_of(path)

    def write(folder: Path) -> None:
        try:
            loaded = load(base.name, device="cpu", revision=base.revision, pooling=base.pooling)
        except ModelError as error:
            raise ModelError(f"the adapter {path} belongs to {base.name}, which cannot be loaded: {error}") from error
        write_whole(path, loaded, base.name, folder)

    content = hash_settings(read_marker(path))
    return written_once(f"{path.resolve().name}-{content[:12]}", content, write, label=path.resolve().name)


def _with_peers_settings(model: SentenceTransformer, name: str) -> SentenceTransformer:
    """``model``; one of the card's peers with the pooling, length and prompts that its files may not say."""
    peer = peer_of(name)
    return model if peer is None else as_peer(model, peer)


def _refuse_endpoint(name: str) -> None:
    """Refuse a model that is behind an endpoint and has no weights to load."""
    peer = peer_of(name)
    if name.startswith("api:") or (peer is not None and peer.endpoint):
        asked = name if name.startswith("api:") else peer.model if peer else name
        raise ModelError(
            f"{name} is a model behind an endpoint, with no weights to load; judge it with m3e eval {asked}, "
            "or encode with m3e.inference.ApiEncoder"
        )


def resolve_name(name: str | os.PathLike[str]) -> str:
    """A short name for results and cards: the local model's name, the folder's, or the hub id."""
    text = os.fspath(name)
    path = Path(text)
    return path.resolve().name if path.is_dir() else text


def _load_folder(path: Path, device: str | None, pooling: str | None = None) -> SentenceTransformer:
    if not path.is_dir():
        raise ModelError(f"there is no model folder {path}; local models: {available_names()}")
    if is_adapter(path):
        path = whole_folder(path)
    _check_holds_model(path)
    if not (path / "modules.json").is_file():
        return _load_plain_transformer(str(path), device, pooling or uniem_pooling(path))
    return _checked(_open(str(path), device=device), str(path))


def _check_holds_model(path: Path) -> None:
    if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
        raise ModelError(f"{path} holds no model: neither modules.json nor config.json is in it")


def _open(name: str, **options: Any) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    try:
        with quiet_libraries(), _same_new_weights():
            return SentenceTransformer(name, **options)
    except Exception as error:  # a damaged folder fails in as many ways as there are libraries below
        raise ModelError(_reason(name, error)) from error


@contextlib.contextmanager
def _same_new_weights() -> Iterator[None]:
    """Draw weights that a model's files lack alike each time, or no two loads would have one fingerprint.

    That is BERT's pooler mostly, which many files lack and no pooling reads.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _reason(name: str | Path, error: Exception) -> str:
    return f"{name} cannot be loaded: {first_line(error)}"


def _load_plain_transformer(
    name: str, device: str | None, pooling: str, hub_options: dict[str, Any] | None = None
) -> SentenceTransformer:
    """A folder or hub model without modules.json, with the pooling that was asked for or that uniem wrote down."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    options = hub_options or {}
    if pooling not in POOLING_MODES:
        raise ModelError(f"pooling {pooling!r} is not known; choose one of {', '.join(POOLING_MODES)}")
    try:
        with quiet_libraries(), _same_new_weights():
            transformer = Transformer(name, model_kwargs=options, processor_kwargs=options, config_kwargs=options)
            dimension = transformer.get_embedding_dimension()
            model = SentenceTransformer(
                modules=[transformer, Pooling(dimension, pooling)],
                device=device,
                similarity_fn_name="cosine",
            )
    except Exception as error:
        raise ModelError(_reason(name, error)) from error
    if pooling == "lasttoken":
        close_texts(model, name)
    return _checked(model, name)


def uniem_pooling(path: Path) -> str:
    """sentence-transformers' name of the pooling in a uniem folder's ``config.json``; ``mean`` where none is named.

    Raises:
        ModelError: the pooling is one that sentence-transformers does not have, or unknown.
    """
    config = read_json(path / "config.json")
    value = next((config[key] for key in _UNIEM_KEYS if key in config), "last_mean")
    if value in _UNIEM_POOLINGS:
        return _UNIEM_POOLINGS[value]
    if value in _UNIEM_POOLINGS_WITHOUT_MODULE:
        raise ModelError(
            f"{path}: uniem's pooling {value!r} has no counterpart in sentence-transformers, so vectors would "
            f"differ; poolings that load: {', '.join(_UNIEM_POOLINGS)}"
        )
    raise ModelError(f"{path}/config.json: unknown uniem pooling {value!r}")


def _load_from_hub(
    name: str, device: str | None, revision: str | None, trust_remote_code: bool, pooling: str | None
) -> SentenceTransformer:
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    cached = _is_cached(name, revision)
    if not cached:
        check_hub(name)
    options["local_files_only"] = cached
    try:
        if pooling is not None and not _has_modules(name, revision, cached):
            return _load_plain_transformer(name, device, pooling, options)
        return _checked(_open(name, device=device, **options), name)
    except ModelError as error:
        if hub_is_reachable():
            raise
        raise HubUnreachableError(_hub_message(name)) from error


def _has_modules(name: str, revision: str | None, cached: bool) -> bool:
    from sentence_transformers.util import is_sentence_transformer_model

    return bool(is_sentence_transformer_model(name, revision=revision, local_files_only=cached))


def _is_cached(name: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError as error:
        raise ModelError(
            f"{name!r} is neither a local model, a folder nor a hub id; local models: {available_names()}"
        ) from error
    return isinstance(found, str)


def check_hub(name: str) -> None:
    """Refuse quickly where the hub cannot be reached.

    Raises:
        HubUnreachableError: names the local models and ``HF_ENDPOINT``.
    """
    if not hub_is_reachable():
        raise HubUnreachableError(_hub_message(name))


def hub_endpoint() -> str:
    """The hub's address: ``HF_ENDPOINT``, else the public one."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids asking the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def hub_is_reachable() -> bool:
    """Whether a connection to the hub opens within a few seconds; false where offline mode is set."""
    if is_offline():
        return False
    address = urlsplit(hub_endpoint())
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=HUB_TIMEOUT_SECONDS):
            return True
    except OSError:
        return False


def _hub_message(name: str) -> str:
    why = (
        "HF_HUB_OFFLINE is set, so the hub is not asked"
        if is_offline()
        else f"the hub {hub_endpoint()} cannot be reached"
    )
    return (
        f"{name!r} is not a local model or folder, and {why}; "
        f"local models: {available_names()}; set HF_ENDPOINT to a mirror to use another hub"
    )


def _checked(model: SentenceTransformer, name: str) -> SentenceTransformer:
    """``model`` unless its tokenizer turns ordinary text into unknown tokens, which makes all vectors equal."""
    rate = unknown_rate(model, _PROBE_TEXT)
    if rate > UNKNOWN_RATE_LIMIT:
        raise ModelError(
            f"{name}: its tokenizer knows {1 - rate:.0%} of a plain Chinese and English sentence; "
            "the tokenizer files do not fit the model (a Chinese WordPiece needs handle_chinese_chars)"
        )
    return model


def unknown_rate(model: SentenceTransformer, text: str) -> float:
    """The share of ``text``'s tokens that are the unknown token."""
    tokenizer = model.tokenizer
    if hasattr(tokenizer, "encode_batch"):  # a tokenizers.Tokenizer, as static models have
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        unknown = (
            tokenizer.token_to_id("<unk>")
            if tokenizer.token_to_id("<unk>") is not None
            else tokenizer.token_to_id("[UNK]")
        )
    else:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        unknown = tokenizer.unk_token_id
    return sum(1 for index in ids if index == unknown) / max(1, len(ids)) if unknown is not None else 0.0
