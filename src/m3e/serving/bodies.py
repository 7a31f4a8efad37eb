"""Bodies of requests: read under a limit, parsed strictly, checked field by field."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from m3e.serving.failures import ApiError, bad_request, too_large
from m3e.serving.ids import ServedIds

_TOKEN_IDS = (
    "input holds token ids, and they belong to another model's tokenizer; send the texts themselves "
    "(in LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False)"
)


class ClientGoneError(Exception):
    """The client hung up before it was answered."""


@dataclass(frozen=True)
class EmbeddingRequest:
    """What a client asks of ``/v1/embeddings``.

    Attributes:
        model: the id, as the client wrote it.
        dimensions: fewer numbers than the model's own, or ``None``.
    """

    model: str
    texts: list[str]
    is_query: bool
    base64: bool
    dimensions: int | None


async def read_body(
    receive: Callable[[], Any], announced: int | None, limit: int, seconds: float, count: Callable[[int], None]
) -> bytes:
    """The body of a request.

    Args:
        receive: of ASGI.
        announced: the header ``content-length``.
        limit: bytes.
        seconds: how long the client may send nothing.
        count: told of the bytes that each piece adds; may refuse them.

    Raises:
        ApiError: 413, larger than ``limit``; 408, the client stopped sending.
        ClientGoneError: it hung up.
    """
    if announced is not None and announced > limit:
        raise too_large(limit)
    pieces: list[bytes] = []
    size = 0
    while True:
        try:
            async with asyncio.timeout(seconds):
                message = await receive()
        except TimeoutError:
            raise ApiError(408, f"The body stopped arriving for {seconds:.0f} s.", code="timeout") from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece = message.get("body", b"")
        count(len(piece))
        size += len(piece)
        if size > limit:
            raise too_large(limit)
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def check_content(headers: dict[bytes, bytes]) -> None:
    """Refuse a body that says it is not JSON, or compressed; one that says nothing is taken for JSON.

    Raises:
        ApiError: 415.
    """
    coding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if coding not in ("", "identity"):
        raise ApiError(415, f"The body is compressed ({coding[:40]!r}); send it as it is.")
    kind, _, parameters = headers.get(b"content-type", b"").decode("latin-1").lower().partition(";")
    kind = kind.strip()
    if kind and kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise ApiError(415, f"The body is {kind[:80]!r}; send JSON with 'Content-Type: application/json'.")
    charset = parameters.partition("charset=")[2].strip(" \"'")
    if charset and charset not in ("utf-8", "utf8", "us-ascii"):
        raise ApiError(415, f"The body is in {charset[:40]!r}; JSON is sent in UTF-8.")


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        ApiError: 400, it is not UTF-8, not JSON, or no object.
    """
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise bad_request(
            f"The body is not UTF-8 (byte {error.start}); a terminal in GB18030 sends such bytes: convert it to UTF-8.",
            None,
        ) from None
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "nested too deeply or a number too long"
        raise bad_request(f"The body is not JSON: {reason}.", None) from None
    if not isinstance(value, dict):
        raise bad_request("The body must be a JSON object with 'model' and 'input'.", None)
    return value


def parse_embedding_request(
    value: dict[str, Any], ids: ServedIds, dimension: int, max_items: int, model: str | None = None
) -> EmbeddingRequest:
    """The checked fields of a body.

    Args:
        value: the body.
        ids: that are served.
        dimension: of the model's vectors.
        max_items: texts a request.
        model: an id that the address names, in place of the body's.

    Raises:
        ApiError: 400 or 404, names the field.
    """
    model = _model(value) if model is None else model
    is_query = ids.is_query(model)
    texts = _texts(value.get("input"), max_items)
    encoding = value.get("encoding_format")
    if encoding not in (None, "float", "base64"):
        raise bad_request(f"encoding_format must be 'float' or 'base64', not {shown(encoding)}.", "encoding_format")
    user = value.get("user")
    if user is not None and not isinstance(user, str):
        raise bad_request(f"user must be a string, not {shown(user)}.", "user")
    return EmbeddingRequest(
        model, texts, is_query, encoding == "base64", _dimensions(value.get("dimensions"), dimension)
    )


def _model(value: dict[str, Any]) -> str:
    model = value.get("model")
    if not isinstance(model, str):
        problem = "is missing" if model is None else f"must be a string, not {shown(model)}"
        raise bad_request(f"model {problem}; /v1/models lists the ids.", "model")
    return model


def _texts(given: Any, max_items: int) -> list[str]:
    if isinstance(given, str):
        given = [given]
        if not given[0]:
            raise bad_request("input is an empty string; send text.", "input")
    if given is None or not isinstance(given, list):
        problem = "is missing" if given is None else f"is {shown(given)}"
        raise bad_request(f"input {problem}; send a string or a list of strings.", "input")
    if not given:
        raise bad_request("input is an empty list; send at least one text.", "input")
    if len(given) > max_items:
        raise bad_request(f"input has {len(given)} texts, more than the {max_items} of one request.", "input")
    if all(_is_token_ids(item) for item in given) or _is_token_ids(given):
        raise bad_request(_TOKEN_IDS + ".", "input")
    for index, text in enumerate(given):
        if not isinstance(text, str):
            raise bad_request(f"input[{index}] is {shown(text)}, not a string.", "input")
        if not text:
            raise bad_request(f"input[{index}] is an empty string; leave it out or send text.", "input")
        check_text("input", text, f"input[{index}]")
    return given


def check_text(param: str, text: str, place: str = "") -> None:
    """Refuse half of a surrogate pair, which JSON can write and no encoding can.

    Raises:
        ApiError: 400, names the place.
    """
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise bad_request(
            f"{place or param} holds half of a surrogate pair at character {error.start}: a text was cut in the "
            "middle of a character (an emoji, a rare Han); cut between characters.",
            param,
        ) from None


def _is_token_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def _dimensions(given: Any, dimension: int) -> int | None:
    if given is None:
        return None
    whole = type(given) is int or (isinstance(given, float) and given.is_integer())
    if not whole or not 1 <= given <= dimension:
        raise bad_request(
            f"dimensions must be a whole number from 1 to {dimension} (this model's own size), not {shown(given)}.",
            "dimensions",
        )
    return None if given == dimension else int(given)


def shown(value: Any) -> str:
    """A JSON value for a message: short, and kinds of JSON by their names."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value) if not isinstance(value, int) or abs(value) < 10**30 else "a very large number"
    return text if len(text) <= 60 else text[:57] + "…"


def _refuse_constant(name: str) -> Any:
    raise json.JSONDecodeError(f"{name} is no number of JSON", name, 0)
