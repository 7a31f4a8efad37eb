"""What judging an endpoint will cost, counted before the first request, and what it did cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from m3e.evaluation.planned import Planned
from m3e.inference.api import ApiEncoder
from m3e.inference.api_options import Cost


def cost_before(encoder: ApiEncoder, tasks: Sequence[Planned], prompts: Sequence[bool] = (True,)) -> str:
    """A line with the texts to send, their estimated tokens and, where a price is set, the sum.

    Args:
        encoder: the endpoint.
        tasks: what will be scored.
        prompts: for each run whether prompts are put before texts.
    """
    total = Cost()
    seen: set[bytes] = set()
    unknown = [planned.name for planned in tasks if not planned.task.data_loaded]
    like_texts = "query" if encoder.has_both_prompts else None
    for planned in tasks:
        for side, texts in _texts(planned):
            for on in prompts:
                total += encoder.estimate(texts, prompt_name=(side or like_texts) if on else None, seen=seen)
    line = f"{encoder.name}: {total.texts:,} texts to send, about {total.tokens:,} tokens"
    line += f"; {total.cached:,} more are in the cache" if total.cached else ""
    price = encoder.options.price
    line += f"; at {price:g} per 1M tokens about {total.tokens * price / 1e6:.4g}" if price is not None else ""
    return line + (f"; not counted, as the data is not loaded yet: {', '.join(unknown)}" if unknown else "")


def cost_after(encoder: ApiEncoder) -> str:
    """A line with what was sent, and what the server counted."""
    usage = encoder.usage
    line = f"{encoder.name}: {usage.texts:,} texts sent in {usage.requests:,} requests, {usage.cached:,} from the cache"
    if usage.tokens:
        line += f"; {usage.tokens:,} tokens by the server's count"
        price = encoder.options.price
        line += f", {usage.tokens * price / 1e6:.4g} at {price:g} per 1M" if price is not None else ""
    return line + (f"; {encoder.retried} requests tried again" if encoder.retried else "")


def _texts(planned: Planned) -> Iterator[tuple[str | None, list[str]]]:
    """The texts that a task encodes, by side; of training rows as many as it draws."""
    task = planned.task
    if not task.data_loaded:
        return
    if "default" in task.dataset:
        part = task.dataset["default"][planned.split]
        yield "query", list(part["queries"]["text"])
        yield "document", [_document(row) for row in part["corpus"]]
        return
    rows = task.dataset[planned.split]
    for column in ("sentence1", "sentence2", "text"):
        if column in rows.column_names:
            yield None, list(rows[column])
    train = getattr(task, "train_split", None)
    if train in task.dataset and train != planned.split:
        yield None, _drawn(task, task.dataset[train])


def _document(row: Mapping[str, str]) -> str:
    """A document as mteb sends it: title and text in one."""
    return f"{row['title']} {row['text']}".strip() if row.get("title") else row["text"]


def _drawn(task: Any, rows: Any) -> list[str]:
    """As many training rows as few-shot classification draws, taken evenly."""
    count = task.samples_per_label * task.n_experiments * len(set(rows["label"]))
    return list(rows["text"])[:: max(1, len(rows) // count)]
