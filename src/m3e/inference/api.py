"""An OpenAI-compatible endpoint as an encoder: batches by tokens, nothing paid twice, nothing cut in silence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np

from m3e.errors import ModelError, SettingsError
from m3e.files import hash_settings
from m3e.inference.api_answers import UnclearAnswerError, read_answer
from m3e.inference.api_cache import Answer, VectorCache
from m3e.inference.api_client import ApiClient, Endpoint, StoppedError, TooMuchError
from m3e.inference.api_lengths import cut_to_tokens, estimate_tokens, share_that_fits
from m3e.inference.api_options import ApiOptions, Cost, Usage
from m3e.inference.encoder import Vectors, batches_by_tokens, check_texts, progress

_CUTS = 24
_SHOWN = 40
_FIELDS_OF_IDENTITY = ("fingerprint", "revision", "root")


class ApiEncoder:
    """Encode texts with a model behind an OpenAI-compatible ``/embeddings`` route.

    Queries go to the model ``NAME:query`` where the server lists one (``m3e serve`` does), and get
    ``query_prompt``; all other texts go to ``NAME``. An empty text is sent as one space, since servers refuse it.

    Args:
        name: ``api:BASE_URL#model``.
        options: prompts, sizes, patience.
        cache: folder of answers; by default ``api`` in the cache folder.
        key: by default from the environment, ``M3E_API_KEY`` or ``OPENAI_API_KEY``.

    Attributes:
        cut: texts of the last call that the server found too long and that were cut.
        usage: what was sent so far.
        on_texts: called with the texts answered and to be answered, after each request of a call.
    """

    def __init__(
        self,
        name: str,
        options: ApiOptions | None = None,
        *,
        cache: Path | None = None,
        key: str | None = None,
    ) -> None:
        self.endpoint = Endpoint.parse(name)
        self.options = options or ApiOptions()
        self.cut = 0
        self.usage = Usage()
        self.on_texts: Callable[[int, int], None] = lambda done, total: None
        self._client = ApiClient(
            self.endpoint,
            key,
            retries=self.options.retries,
            backoff=self.options.backoff,
            timeout=self.options.timeout,
        )
        self._cache = VectorCache(self.endpoint.base_url, cache)
        self._lock = threading.Lock()
        self._batch_texts = self.options.batch_texts
        self._dimension = self.options.dimensions
        listed = self._client.models() or {}
        model = self.endpoint.model
        self._query_model = f"{model}:query" if f"{model}:query" in listed else model
        self._identity = [listed.get(model, {}).get(field) for field in _FIELDS_OF_IDENTITY]

    @property
    def name(self) -> str:
        """The model's name in results: ``model@host``."""
        return f"{self.endpoint.model}@{self.endpoint.host}"

    @property
    def revision(self) -> str:
        """16 hex digits over what is known to decide the vectors: address, model, prompts, dimensions."""
        prompts = [self._query_model, self.options.query_prompt, self.options.document_prompt]
        settings = [self.endpoint.base_url, self.endpoint.model, self.options.dimensions, *prompts, *self._identity]
        return hash_settings(settings)[:16]

    @property
    def dimension(self) -> int:
        """Numbers a vector; a short text is sent where no answer has told it yet."""
        if self._dimension is None:
            self.encode(["m3e"])
        return int(self._dimension or 0)

    @property
    def has_prompts(self) -> bool:
        """Whether queries or documents are marked: by a prompt of the options, or by a model of their own."""
        marked = self.options.query_prompt or self.options.document_prompt
        return self._query_model != self.endpoint.model or bool(marked)

    @property
    def has_both_prompts(self) -> bool:
        """Whether queries and documents are both marked, so that like texts are to be sent as queries."""
        marked = self.options.query_prompt and self.options.document_prompt
        return self._query_model != self.endpoint.model or bool(marked)

    @property
    def retried(self) -> int:
        """Requests that were tried again so far."""
        return self._client.retried

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        show_progress: bool = False,
    ) -> Vectors:
        """Vectors of shape (texts, dimension), fp32, in the order of ``texts``.

        Args:
            texts: any strings; equal ones are sent once.
            prompt_name: ``query`` or ``document``: the side's model and prompt.
            prompt: put before every text instead of the side's prompt.

        Raises:
            DataError: an item is not a string, named by its index.
            ModelError: the server refuses, does not answer, or answers what cannot be right; names the text.
                What was answered before that is kept and is not asked again.
        """
        check_texts(texts)
        model, prefix = self._side(prompt_name)
        sent = self._sent(prefix if prompt is None else prompt, texts)
        asked = {text: VectorCache.key(self._settings(model), text) for text in dict.fromkeys(sent)}
        found = self._cache.get(list(asked.values()))
        missing = [text for text, key in asked.items() if key not in found]
        self.usage.cached += len(asked) - len(missing)
        self._check_dimensions(found.values())
        if missing:
            with progress(len(missing), show_progress) as advance:
                found |= self._fetch(model, missing, asked, sent, advance)
        answers = [found[asked[text]] for text in sent]
        self.cut = sum(answer.cut for answer in answers)
        self._check_dimensions(answers)
        return np.stack([answer.vector for answer in answers]) if answers else np.zeros((0, self.dimension), np.float32)

    def encode_query(self, texts: Sequence[str], **options: Any) -> Vectors:
        """:meth:`encode` as queries."""
        return self.encode(texts, prompt_name="query", **options)

    def encode_document(self, texts: Sequence[str], **options: Any) -> Vectors:
        """:meth:`encode` as documents."""
        return self.encode(texts, prompt_name="document", **options)

    def estimate(self, texts: Sequence[str], *, prompt_name: str | None = None, seen: set[bytes] | None = None) -> Cost:
        """What :meth:`encode` of ``texts`` would send; nothing is sent.

        Args:
            texts: equal ones count once.
            prompt_name: as for :meth:`encode`.
            seen: what earlier estimates counted, which is not counted again; it grows.
        """
        model, prefix = self._side(prompt_name)
        seen = set() if seen is None else seen
        asked = {VectorCache.key(self._settings(model), text): text for text in self._sent(prefix, texts)}
        new = {key: text for key, text in asked.items() if key not in seen}
        seen.update(new)
        known = self._cache.get(list(new))
        tokens = [estimate_tokens(text) for key, text in new.items() if key not in known]
        return Cost(len(tokens), sum(tokens), len(known))

    @staticmethod
    def _sent(prefix: str, texts: Sequence[str]) -> list[str]:
        """What goes over the wire for each text."""
        return [(prefix + text) or " " for text in texts]

    def _side(self, prompt_name: str | None) -> tuple[str, str]:
        """The model and the prompt of a side."""
        if prompt_name is None:
            return self.endpoint.model, ""
        if prompt_name == "query":
            return self._query_model, self.options.query_prompt
        if prompt_name == "document":
            return self.endpoint.model, self.options.document_prompt
        raise SettingsError(f"an endpoint has no prompt {prompt_name!r}; it has: query, document")

    def _settings(self, model: str) -> list[Any]:
        return [model, self.options.dimensions, *self._identity]

    def _check_dimensions(self, answers: Iterable[Answer]) -> None:
        sizes = {len(answer.vector) for answer in answers}
        if len(sizes) > 1:
            raise ModelError(
                f"{self.endpoint.base_url} gave vectors of {' and '.join(map(str, sorted(sizes)))} numbers for one "
                f"model; if it was changed, move {self._cache.path} away"
            )
        if sizes:
            self._dimension = sizes.pop()

    def _fetch(
        self, model: str, texts: list[str], asked: dict[str, bytes], sent: list[str], advance: Callable[[int], None]
    ) -> dict[bytes, Answer]:
        """Answers to all texts, by key; each request's are on disk before anything else happens."""
        found: dict[bytes, Answer] = {}

        def fetch(batch: list[str]) -> None:
            for part, answers in self._ask(model, batch, sent):
                pairs = list(zip(part, answers, strict=True))
                kept = {asked[text]: answer for text, answer in pairs if not isinstance(answer, str)}
                self._cache.put(kept)
                with self._lock:
                    found.update(kept)
                    advance(len(kept))
                    self.on_texts(len(found), len(texts))
                for text, answer in pairs:
                    if isinstance(answer, str):
                        raise ModelError(f"{self.endpoint.base_url}: {_named(sent, text)}: {answer}")

        self._client.stopping.clear()
        batches = list(self._batches(texts))
        if self._dimension is None:  # the last batch holds the most texts: most of them say how long vectors are
            fetch(batches.pop())
        with ThreadPoolExecutor(self.options.concurrency) as pool:
            futures = [pool.submit(fetch, batch) for batch in batches]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                if not all(future.done() for future in futures):
                    self._client.stopping.set()
                for future in futures:
                    future.cancel()
        errors = [future.exception() for future in futures if not future.cancelled()]
        for error in sorted(filter(None, errors), key=lambda error: isinstance(error, StoppedError)):
            raise error
        return found

    def _batches(self, texts: list[str]) -> Iterator[list[str]]:
        """Texts of like length, as many as the options allow in a request."""
        for indices in batches_by_tokens([estimate_tokens(text) for text in texts], self.options.batch_tokens):
            for start in range(0, len(indices), self.options.batch_texts):
                yield [texts[index] for index in indices[start : start + self.options.batch_texts]]

    def _ask(self, model: str, batch: list[str], sent: list[str]) -> Iterator[tuple[list[str], list[Answer | str]]]:
        """Parts of the batch with their answers; a part that is too much for the server is halved."""
        if len(batch) > self._batch_texts:
            for start in range(0, len(batch), self._batch_texts):
                yield from self._ask(model, batch[start : start + self._batch_texts], sent)
            return
        try:
            vectors = self._request(model, batch)
        except TooMuchError as error:
            if len(batch) == 1:
                yield batch, [self._ask_cut(model, batch[0], error)]
                return
            if "batch" in error.reason:
                self._batch_texts = min(self._batch_texts, (len(batch) + 1) // 2)
        except StoppedError:
            raise
        except UnclearAnswerError as error:
            text = batch[error.index]
            raise ModelError(f"{self.endpoint.base_url}: {_named(sent, text)}: {error}") from error
        except ModelError as error:
            others = f" and {len(batch) - 1} more" if len(batch) > 1 else ""
            raise ModelError(f"{error}; asked for {_named(sent, batch[0])}{others}") from error
        else:
            yield batch, [vector if isinstance(vector, str) else Answer(vector, False) for vector in vectors]
            return
        middle = len(batch) // 2
        yield from self._ask(model, batch[:middle], sent)
        yield from self._ask(model, batch[middle:], sent)

    def _ask_cut(self, model: str, text: str, refusal: TooMuchError) -> Answer | str:
        """The answer to the beginning of a text: as much of it as the server takes."""
        for _ in range(_CUTS):
            tokens = estimate_tokens(text)
            text = cut_to_tokens(text, int(tokens * share_that_fits(refusal.reason, tokens)))
            if not text:
                break
            try:
                [vector] = self._request(model, [text])
                return vector if isinstance(vector, str) else Answer(vector, True)
            except TooMuchError as error:
                refusal = error
        return str(refusal)

    def _request(self, model: str, texts: list[str]) -> list[Any]:
        reading = read_answer(self._client.embed(model, texts, self.options.dimensions), len(texts), self._dimension)
        with self._lock:
            self.usage.requests += 1
            self.usage.texts += len(texts)
            self.usage.tokens += reading.tokens
            if self._dimension is None:
                self._dimension = next((len(item) for item in reading.vectors if not isinstance(item, str)), None)
        return list(reading.vectors)


def _named(sent: list[str], text: str) -> str:
    """A text by its place among those that were given, and its beginning."""
    return f"text {sent.index(text)} ({text[:_SHOWN]!r})"
