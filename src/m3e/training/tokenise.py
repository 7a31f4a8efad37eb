"""A prepared data folder's texts to token ids, ahead of training.

A folder in, a folder out. Shards are tokenised side by side; a stopped run goes on with the shards that are missing.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m3e.data.keys import hashes_of_keys, text_keys
from m3e.errors import DataError, SettingsError
from m3e.files import atomic_folder, hash_settings, read_json, read_marker, write_json, write_marker
from m3e.inference.encoder import DOCUMENT_PROMPTS
from m3e.training.rows import NEGATIVES_A_ROW
from m3e.training.sources import Source, shard_rows
from m3e.training.token_store import STEP, TokenStore

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

_COPY_AT_ONCE = 16 << 20
_NO_LIMIT = 1 << 30


@dataclass(frozen=True)
class Prompts:
    """What is put before a data set's texts: its queries, and all others."""

    query: str = ""
    document: str = ""


@dataclass(frozen=True)
class Tokenisation:
    """All that decides a text's token ids.

    Attributes:
        tokenizer: the serialised tokenizer (``tokenizer.json``).
        max_length: tokens a text is cut to.
        lower_case: lower-case texts first, as some old models want.
        prompts: of each data set, by name.
        prompt_counts: record how many tokens a prompt has, for poolings that leave it out.
        negatives: a row's at most.
    """

    tokenizer: str
    max_length: int
    lower_case: bool
    prompts: Mapping[str, Prompts]
    prompt_counts: bool = False
    negatives: int = NEGATIVES_A_ROW

    @classmethod
    def of(
        cls, model: SentenceTransformer, sources: Sequence[Source], prompts: Mapping[str, Prompts] | None = None
    ) -> Tokenisation:
        """A model's own tokenisation.

        Args:
            prompts: of data sets by name; those that are missing take the model's: its query prompt, and its
                document prompt for the other side, or the query prompt on both where the sides may be swapped.
        """
        chosen = {source.name: (prompts or {}).get(source.name) or prompts_of(model, source) for source in sources}
        rest = list(model)[1:]
        limit = model.max_seq_length
        return cls(
            backend_tokenizer(model).to_str(),
            int(limit) if limit and math.isfinite(limit) else _NO_LIMIT,
            bool(getattr(model[0], "do_lower_case", False)),
            chosen,
            prompt_counts=any(not getattr(module, "include_prompt", True) for module in rest),
        )

    @property
    def hash(self) -> str:
        """Of all settings."""
        return hash_settings(asdict(self))


def backend_tokenizer(model: SentenceTransformer) -> Tokenizer:
    """The tokenizer itself, without its Python shell.

    Raises:
        SettingsError: the model's tokenizer has none.
    """
    tokenizer = model.tokenizer
    backend: Tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "encode_batch_fast"):
        raise SettingsError(f"the tokenizer {type(tokenizer).__name__} is not a fast one; only those can be stored")
    return backend


def prompts_of(model: SentenceTransformer, source: Source) -> Prompts:
    """The model's own prompts for a data set's sides."""
    known = model.prompts or {}
    query = known.get("query") or ""
    symmetric = source.symmetric or source.kind == "scored_pair"
    document = next((known[name] for name in DOCUMENT_PROMPTS if known.get(name)), "")
    return Prompts(query, query if symmetric else document)


def build_token_store(
    sources: Sequence[Source],
    tokenisation: Tokenisation,
    folder: Path,
    *,
    workers: int | None = None,
    on_shard: Callable[[int, int], None] = lambda done, total: None,
) -> TokenStore:
    """The store of some data sets in ``folder``; one that is there already, of the same inputs, is opened.

    Args:
        workers: processes; as many as there are processors by default, none beside this one for a single shard.
        on_shard: called with the shards done and all of them.

    Raises:
        SettingsError: the folder holds the store of other data, tokenizer or settings.
        DataError: a shard cannot be read.
    """
    identity = hash_settings([tokenisation.hash, [(source.name, source.content_hash) for source in sources]])
    marker = read_marker(folder)
    if marker is not None and marker["m3e"] == STEP:
        if marker.get("hash") != identity:
            raise SettingsError(
                f"{folder} holds the token ids of other data, another tokenizer or other settings; remove it, or name "
                "another folder"
            )
        return TokenStore.open(folder)
    parts = folder.with_name(f".{folder.name}.parts")
    if (read_marker(parts) or {}).get("hash") != identity:
        shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True, exist_ok=True)
    write_marker(parts, STEP, hash=identity)
    _tokenise_shards(sources, tokenisation, parts, workers or os.cpu_count() or 1, on_shard)
    with atomic_folder(folder) as temporary:
        for number, source in enumerate(sources):
            _join(
                source,
                tokenisation,
                [parts / _part_name(number, at) for at in range(len(source.shards))],
                temporary / f"{number:03d}",
            )
        write_marker(temporary, STEP, hash=identity, sets=len(sources))
    shutil.rmtree(parts, ignore_errors=True)
    return TokenStore.open(folder)


def _part_name(source: int, shard: int) -> str:
    return f"{source:03d}-{shard:05d}"


def _tokenise_shards(
    sources: Sequence[Source],
    tokenisation: Tokenisation,
    parts: Path,
    workers: int,
    on_shard: Callable[[int, int], None],
) -> None:
    jobs = [
        (shard, source.name, source.kind, tokenisation, parts / _part_name(number, at))
        for number, source in enumerate(sources)
        for at, shard in enumerate(source.shards)
    ]
    missing = [job for job in jobs if not job[-1].is_dir()]
    done = len(jobs) - len(missing)
    on_shard(done, len(jobs))
    with _pool(min(workers, len(missing))) as run:
        for _ in run(_tokenise_shard, missing):
            done += 1
            on_shard(done, len(jobs))


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[Callable[..., Any]]:
    if workers < 2:
        yield map
        return
    # the parent may hold threads of torch and of the tokenizer, which a fork would not take along
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield pool.map


def _tokenise_shard(job: tuple[Path, str, str, Tokenisation, Path]) -> None:
    """Write the ids, lengths, keys and rows of one shard."""
    from tokenizers import Tokenizer

    shard, name, kind, tokenisation, part = job
    tokenizer = Tokenizer.from_str(tokenisation.tokenizer)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if tokenisation.max_length < _NO_LIMIT:
        tokenizer.enable_truncation(tokenisation.max_length)
    dtype = id_type(tokenizer.get_vocab_size(with_added_tokens=True))
    prompts = tokenisation.prompts[name]
    columns: dict[str, list[NDArray[Any]]] = {"lengths": [], "keys": [], "slots": [], "labels": [], "scores": []}
    texts = cut = 0
    with atomic_folder(part) as temporary:
        with (temporary / "ids.bin").open("wb") as stream:
            for rows in shard_rows(shard, kind, tokenisation.negatives):
                columns["keys"].append(text_ids(rows.texts))
                columns["slots"].append(np.where(rows.slots < 0, -1, rows.slots + texts).astype(np.int32))
                for field, values in (("labels", rows.labels), ("scores", rows.scores)):
                    if values is not None:
                        columns[field].append(values)
                encodings = tokenizer.encode_batch_fast(_with_prompts(rows.texts, rows.slots, prompts, tokenisation))
                lists = [encoding.ids for encoding in encodings]
                cut += sum(1 for encoding in encodings if encoding.overflowing)
                columns["lengths"].append(np.fromiter(map(len, lists), np.int64, len(lists)))
                for ids in lists:
                    stream.write(np.asarray(ids, dtype).tobytes())
                texts += len(rows.texts)
        for field, arrays in columns.items():
            if arrays:
                np.save(temporary / f"{field}.npy", np.concatenate(arrays))
        write_json(temporary / "part.json", {"cut": cut, "texts": texts, "dtype": np.dtype(dtype).str})


def text_ids(texts: Sequence[str]) -> NDArray[np.int64]:
    """:func:`m3e.training.rows.text_id` of each text."""
    return ((hashes_of_keys(text_keys(texts)) >> np.uint64(1)) | np.uint64(1)).astype(np.int64)


def id_type(vocabulary: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest type that holds every id of a vocabulary."""
    return np.uint16 if vocabulary <= 1 << 16 else np.uint32


def _with_prompts(
    texts: list[str], slots: NDArray[np.int64], prompts: Prompts, tokenisation: Tokenisation
) -> list[str]:
    if prompts.query or prompts.document:
        prefixes = [prompts.document] * len(texts)
        for place in np.unique(slots[:, 0]).tolist():
            prefixes[place] = prompts.query
        texts = [prefix + text for prefix, text in zip(prefixes, texts, strict=True)]
    return [text.lower() for text in texts] if tokenisation.lower_case else texts


def _join(source: Source, tokenisation: Tokenisation, parts: Sequence[Path], folder: Path) -> None:
    """The parts of a set, in order, as one."""
    folder.mkdir()
    facts = [read_json(part / "part.json") for part in parts]
    lengths = np.concatenate([np.load(part / "lengths.npy") for part in parts])
    starts = np.concatenate(([0], np.cumsum(lengths)))
    np.save(folder / "starts.npy", starts)
    np.save(folder / "keys.npy", np.concatenate([np.load(part / "keys.npy") for part in parts]))
    slots = _joined_slots(parts, [fact["texts"] for fact in facts])
    np.save(folder / "slots.npy", slots)
    if all((part / "labels.npy").exists() for part in parts):
        np.save(folder / "labels.npy", np.concatenate([np.load(part / "labels.npy") for part in parts]))
    if all((part / "scores.npy").exists() for part in parts):
        scores = np.concatenate([np.load(part / "scores.npy") for part in parts])[:, : slots.shape[1] - 1]
        if np.isfinite(scores).any():  # of rows that nobody scored, nothing is kept
            np.save(folder / "scores.npy", scores)
    with (folder / "ids.bin").open("wb") as joined:
        for part in parts:
            with (part / "ids.bin").open("rb") as stream:
                shutil.copyfileobj(stream, joined, _COPY_AT_ONCE)
    write_json(
        folder / "set.json",
        {
            "name": source.name,
            "kind": source.kind,
            "symmetric": source.symmetric,
            "weight": source.weight,
            "dtype": facts[0]["dtype"],
            "tokens": int(starts[-1]),
            "cut": sum(fact["cut"] for fact in facts),
            "prompt_tokens": _prompt_tokens(tokenisation, source.name),
        },
    )


def _joined_slots(parts: Sequence[Path], texts: Sequence[int]) -> NDArray[np.int32]:
    """Rows of all parts, their texts numbered through; columns that no row uses are left out."""
    first = np.cumsum([0, *texts])
    if first[-1] >= 1 << 31:
        raise DataError("a data set of more than two thousand million texts is too large for the token store; split it")
    slots = [np.load(part / "slots.npy") for part in parts]
    for values, offset in zip(slots, first, strict=False):
        values[values >= 0] += offset
    joined = np.concatenate(slots)
    used = max(1, int((joined >= 0).any(axis=0).sum()))
    return np.ascontiguousarray(joined[:, :used])


def _prompt_tokens(tokenisation: Tokenisation, name: str) -> tuple[int, int] | None:
    from tokenizers import Tokenizer

    if not tokenisation.prompt_counts:
        return None
    tokenizer = Tokenizer.from_str(tokenisation.tokenizer)
    tokenizer.no_padding()
    prompts = tokenisation.prompts[name]
    # what closes a text does not belong to its prompt
    counts = [len(tokenizer.encode(prompt).ids) - 1 if prompt else 0 for prompt in (prompts.query, prompts.document)]
    return counts[0], counts[1]
