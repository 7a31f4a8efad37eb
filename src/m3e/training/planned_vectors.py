"""A model's vectors of the texts that planned batches hold: what a guide or a teacher knows of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m3e.evaluation.measures import unit
from m3e.files import atomic_file, atomic_folder, hash_settings, read_marker, write_marker
from m3e.training.sources import Source, shard_rows
from m3e.training.tokenise import text_ids

if TYPE_CHECKING:
    from m3e.inference import Encoder
    from m3e.training.batches import BatchPlan
    from m3e.training.token_store import TokenStore

STEP = "text vectors"
TEXTS_A_PART = 16_384


def encoder_for(name: str | Path, device: str | None, max_length: int | None = None) -> Encoder:
    """An encoder whose vectors a stopped run finds the same again: no backend is chosen by how fast it is today.

    Args:
        max_length: tokens that training sees of a text; a longer rest says nothing about what it learns.
    """
    from m3e.inference import Encoder
    from m3e.models import load

    model = load(name, device=device)
    if getattr(model[0], "model", None) is None:
        return Encoder(model)
    if max_length is not None and max_length < (model.max_seq_length or max_length + 1):
        model.max_seq_length = max_length
    return Encoder(model, backend="torch")


def planned_vectors(
    encoder: Encoder,
    sources: Sequence[Source],
    store: TokenStore,
    plan: BatchPlan,
    folder: Path,
    *,
    negatives: int,
    one_prompt: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """Ids, and unit vectors of shape (texts, dimension), of all texts of the plan; a stopped run goes on where it was.

    It goes on in the type that it began with, whatever the processor is found to be fast at today, and with as many
    threads as there are now: hours of work are worth more than the last bits.

    Args:
        folder: where they are kept, in fp16.
        negatives: a row's at most, as the store has them.
        one_prompt: every text as a query; otherwise those that only stand as passages are encoded as such.
    """
    settings = encoder.settings()
    own = [settings[name] for name in ("model", "max_length", "dim")]
    identity = hash_settings([own, store.hash, len(plan), one_prompt, negatives])
    if (read_marker(folder) or {}).get("hash") != identity:
        parts = folder.with_name(f".{folder.name}.parts")
        parts.mkdir(parents=True, exist_ok=True)
        begun = read_marker(parts) or {}
        if begun.get("hash") != identity:
            for old in parts.glob("*.npy"):
                old.unlink()
            write_marker(parts, STEP, hash=identity, dtype=encoder.dtype)
        elif begun["dtype"] != encoder.dtype:
            encoder = type(encoder)(encoder.model, backend="torch", dtype=begun["dtype"])
        _encode_parts(encoder, sources, store, plan, parts, negatives, one_prompt, say)
        _join(parts, folder, identity)
    return np.load(folder / "ids.npy"), np.load(folder / "vectors.npy", mmap_mode="r")


def _encode_parts(
    encoder: Encoder,
    sources: Sequence[Source],
    store: TokenStore,
    plan: BatchPlan,
    parts: Path,
    negatives: int,
    one_prompt: bool,
    say: Callable[[str], None],
) -> None:
    total = _wanted_texts(store, plan)
    done = 0
    for number, (ids, texts, is_query) in enumerate(_parts(sources, store, plan, negatives)):
        target = parts / f"{number:05d}.npy"
        done += len(ids)
        if target.exists():
            continue
        vectors = np.empty((len(ids), encoder.dimension), np.float16)
        queries = np.ones(len(ids), bool) if one_prompt else is_query
        for chosen, encode in ((queries, encoder.encode_query), (~queries, encoder.encode_document)):
            places = np.flatnonzero(chosen)
            if len(places):
                vectors[places] = unit(encode([texts[place] for place in places]))
        np.save(parts / f"{number:05d}.ids.npy", ids)
        with atomic_file(target) as temporary, temporary.open("wb") as stream:
            np.save(stream, vectors)
        say(f"vectors of {done} of {total} texts")


def _wanted(store: TokenStore, plan: BatchPlan) -> list[NDArray[np.int64]]:
    """The text ids that the plan's batches hold, of each set, sorted."""
    found = []
    for number, each in enumerate(store.sets):
        rows = np.unique(plan.rows[np.asarray(plan.sets) == number])
        keys = np.unique(each.row_keys[rows]) if len(rows) else np.empty(0, np.int64)
        found.append(keys[keys != 0])
    return found


def _wanted_texts(store: TokenStore, plan: BatchPlan) -> int:
    return len(np.unique(np.concatenate(_wanted(store, plan))))


def _parts(
    sources: Sequence[Source], store: TokenStore, plan: BatchPlan, negatives: int
) -> Iterator[tuple[NDArray[np.int64], list[str], NDArray[np.bool_]]]:
    """Ids, texts and whether a text is a query, some thousand texts at a time, each text once, always in this order."""
    ids: list[int] = []
    texts: list[str] = []
    roles: list[bool] = []
    seen: set[int] = set()
    for source, wanted in zip(sources, _wanted(store, plan), strict=True):
        for shard in source.shards:
            for rows in shard_rows(shard, source.kind, negatives):
                keys = text_ids(rows.texts)
                queries = np.zeros(len(keys), bool)
                queries[rows.slots[:, 0]] = True
                if source.symmetric or source.kind in ("scored_pair", "text"):
                    queries[:] = True
                for place in np.flatnonzero(np.isin(keys, wanted)).tolist():
                    key = int(keys[place])
                    if key in seen:
                        continue
                    seen.add(key)
                    ids.append(key)
                    texts.append(rows.texts[place])
                    roles.append(bool(queries[place]))
                    if len(ids) == TEXTS_A_PART:
                        yield np.asarray(ids), texts, np.asarray(roles)
                        ids, texts, roles = [], [], []
    if ids:
        yield np.asarray(ids), texts, np.asarray(roles)


def _join(parts: Path, folder: Path, identity: str) -> None:
    files = sorted(path for path in parts.glob("*.npy") if not path.name.endswith(".ids.npy"))
    ids = np.concatenate([np.load(path.with_suffix(".ids.npy")) for path in files])
    first = np.load(files[0], mmap_mode="r")
    with atomic_folder(folder) as temporary:
        np.save(temporary / "ids.npy", ids)
        joined = np.lib.format.open_memmap(
            temporary / "vectors.npy", mode="w+", dtype=np.float16, shape=(len(ids), first.shape[1])
        )
        start = 0
        for path in files:
            part = np.load(path)
            joined[start : start + len(part)] = part
            start += len(part)
        joined.flush()
        write_marker(temporary, STEP, hash=identity)
    shutil.rmtree(parts, ignore_errors=True)
