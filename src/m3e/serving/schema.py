"""The OpenAPI document of a server, exact for the model that it serves."""

from __future__ import annotations

from typing import Any

from m3e import __version__

Schema = dict[str, Any]

_JSON = "application/json"
_REASONS = {
    400: "The body is wrong; param names the field",
    401: "The API key is missing or wrong",
    404: "There is no such model or path",
    408: "The body stopped arriving",
    413: "The body is too large",
    415: "The body is not JSON",
    429: "The queue is full; Retry-After says when to try again",
    503: "The server is stopping",
}
_POST_ERRORS = (400, 401, 404, 408, 413, 415, 429, 503)
_GET_ERRORS = (401, 404, 503)


def openapi_document(ids: list[str], dimension: int, max_items: int, *, searches: bool) -> Schema:
    """OpenAPI 3.1 of the routes.

    Args:
        ids: that are served.
        dimension: of the model's vectors.
        max_items: texts a request.
        searches: whether there is a store behind ``/v1/search``.
    """
    embedding = _post("Vectors of texts", "createEmbedding", _request(ids, dimension, max_items), "Embeddings")
    deployment = _post(
        "Vectors of texts, as Azure's clients ask",
        "createDeploymentEmbedding",
        _request(None, dimension, max_items),
        "Embeddings",
    )
    deployment["parameters"] = [_path_id(ids), _query("api-version")]
    paths: Schema = {
        "/v1/embeddings": {"post": embedding},
        "/openai/deployments/{model}/embeddings": {"post": deployment},
        "/v1/models": {"get": _get("The served ids", "listModels", "ModelList", _GET_ERRORS)},
        "/v1/models/{model}": {
            "get": _get("One served id", "retrieveModel", "Model", _GET_ERRORS) | {"parameters": [_path_id(ids)]}
        },
        "/card": {"get": _get("The model's card", "card", "Card", (503,), secured=False)},
        "/healthz": {"get": _get("Whether the server lives", "healthz", "Status", (), secured=False)},
        "/readyz": {"get": _get("Whether the server takes requests", "readyz", "Status", (), secured=False)},
    }
    for probe in ("/healthz", "/readyz"):
        paths[probe]["get"]["responses"]["503"] = _answer("It does not", {"$ref": "#/components/schemas/Status"})
    if searches:
        paths["/v1/search"] = {"post": _post("The nearest documents of the store", "search", _search(), "Hits")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "m3e", "version": __version__, "description": "Text embeddings by OpenAI's API."},
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "api-key"},
            },
        },
    }


def _request(ids: list[str] | None, dimension: int, max_items: int) -> Schema:
    text = {"type": "string", "minLength": 1}
    properties: Schema = {
        "input": {
            "description": "One text, or several.",
            "anyOf": [text, {"type": "array", "items": text, "minItems": 1, "maxItems": max_items}],
        },
        "encoding_format": {"enum": ["float", "base64", None], "default": "float"},
        "dimensions": {
            "description": "Keep the first numbers only, scaled to length 1.",
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": dimension,
        },
        "user": {"type": ["string", "null"]},
    }
    if ids is not None:
        properties = {"model": {"type": "string", "enum": ids}, **properties}
    return {"type": "object", "required": ["model", "input"] if ids else ["input"], "properties": properties}


def _search() -> Schema:
    from m3e.serving.search import MAX_TOP_K, MODES

    condition = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["query"],
        "properties": {
            "query": {"type": "string", "minLength": 1},
            "top_k": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_TOP_K, "default": 10},
            "mode": {"enum": [*MODES, None], "default": "dense"},
            "filter": {
                "description": "Conditions on metadata, as city=北京 or year>=2020; all must hold.",
                "anyOf": [condition, {"type": "array", "items": condition}, {"type": "null"}],
            },
        },
    }


def _schemas() -> Schema:
    text: Schema = {"type": "string"}
    or_null: Schema = {"type": ["string", "null"]}
    count: Schema = {"type": "integer", "minimum": 0}
    vector = {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string", "format": "byte"}]}
    item = _object(object={"const": "embedding"}, index=count, embedding=vector)
    hit = _object(id=text, score={"type": "number"}, text=or_null, metadata={"type": "object"})
    return {
        "Error": _object(error=_object(message=text, type=text, param=or_null, code=or_null)),
        "Embeddings": _object(
            object={"const": "list"},
            data={"type": "array", "items": item, "minItems": 1},
            model=text,
            usage=_object(prompt_tokens=count, total_tokens=count),
        ),
        "Model": _object(id=text, object={"const": "model"}, created=count, owned_by=text),
        "ModelList": _object(
            object={"const": "list"}, data={"type": "array", "items": {"$ref": "#/components/schemas/Model"}}
        ),
        "Status": _object(status=text),
        "Hits": _object(model=text, hits={"type": "array", "items": hit}),
        "Card": _object(
            model=text,
            ids={"type": "array", "items": text},
            dimension=count,
            max_length={"type": ["integer", "null"]},
            dtype=text,
            backend=text,
            licence=or_null,
            languages={"type": "array", "items": text},
            prompts={"type": "object", "additionalProperties": text},
            card=text,
            store={"anyOf": [_object(url_kind=text, rows=count), {"type": "null"}]},
            key_required={"type": "boolean"},
        ),
    }


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


def _post(summary: str, operation: str, body: Schema, answer: str) -> Schema:
    return {
        "summary": summary,
        "operationId": operation,
        "security": [{"bearer": []}, {"apiKey": []}, {}],
        "requestBody": {"required": True, "content": {_JSON: {"schema": body}}},
        "responses": _responses(answer, _POST_ERRORS),
    }


def _get(summary: str, operation: str, answer: str, errors: tuple[int, ...], *, secured: bool = True) -> Schema:
    security: list[Schema] = [{"bearer": []}, {"apiKey": []}, {}] if secured else [{}]
    return {
        "summary": summary,
        "operationId": operation,
        "security": security,
        "responses": _responses(answer, errors),
    }


def _responses(answer: str, errors: tuple[int, ...]) -> Schema:
    error = {"$ref": "#/components/schemas/Error"}
    good = {"200": _answer("Done", {"$ref": f"#/components/schemas/{answer}"})}
    return good | {str(code): _answer(_REASONS[code], error) for code in errors}


def _answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {_JSON: {"schema": schema}}}


def _path_id(ids: list[str]) -> Schema:
    return {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "enum": ids}}


def _query(name: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
