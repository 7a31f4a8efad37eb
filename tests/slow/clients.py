"""Run by a Python of a client's own: embed texts with one client library, by folder and by server.

Usage: clients.py CLIENT SETTINGS.json OUT.json

SETTINGS holds ``documents``, ``queries``, ``key`` and ``targets``, each with ``name``, ``folder``, ``base_url`` and
``prompts``. OUT gets, for each target and way (``folder``, ``server``), what the client's own calls return.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Vectors = list[list[float]]


def openai(target: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    from openai import APIStatusError, AsyncOpenAI, OpenAI

    client = OpenAI(base_url=target["base_url"], api_key=settings["key"])
    name, documents, queries = target["name"], settings["documents"], settings["queries"]

    def vectors(answer: Any) -> Vectors:
        return [item.embedding for item in answer.data]

    def refusal(texts: Any, model: str = name, key: str = settings["key"]) -> list[Any]:
        try:
            client.with_options(api_key=key).embeddings.create(model=model, input=texts)
        except APIStatusError as error:
            return [type(error).__name__, error.status_code, error.body["message"]]
        return ["none"]

    async def at_once() -> list[Vectors]:
        async with AsyncOpenAI(base_url=target["base_url"], api_key=settings["key"]) as waiting:
            calls = [waiting.embeddings.create(model=f"{name}:query", input=query) for query in queries]
            return [vectors(answer) for answer in await asyncio.gather(*calls)]

    usage = client.embeddings.create(model=name, input=documents).usage
    return {
        "server": {
            "documents": vectors(client.embeddings.create(model=name, input=documents)),
            "queries": [row for rows in asyncio.run(at_once()) for row in rows],
        },
        "floats": {
            "documents": vectors(client.embeddings.create(model=name, input=documents, encoding_format="float")),
            "queries": vectors(client.embeddings.create(model=f"{name}:query", input=queries)),
        },
        "models": [model.id for model in client.models.list()],
        "model": client.models.retrieve(name).id,
        "usage": [usage.prompt_tokens, usage.total_tokens],
        "refusals": [refusal(["a", ""]), refusal("a", model="another"), refusal("a", key="wrong")],
    }


def langchain(target: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_huggingface import HuggingFaceEmbeddings
    from langchain_openai import OpenAIEmbeddings

    prompts = {"document": {"prompt_name": "document"}, "query": {"prompt_name": "query"}} if target["prompts"] else {}
    folder = HuggingFaceEmbeddings(
        model_name=target["folder"],
        model_kwargs={"device": "cpu"},
        encode_kwargs=prompts.get("document", {}),
        query_encode_kwargs=prompts.get("query", {}),
    )
    options = {"base_url": target["base_url"], "api_key": settings["key"], "check_embedding_ctx_length": False}
    passages = OpenAIEmbeddings(model=target["name"], **options)
    queries = OpenAIEmbeddings(model=f"{target['name']}:query", **options)
    store = InMemoryVectorStore.from_texts(settings["documents"], passages)
    return {
        "folder": _embed(folder.embed_documents, folder.embed_query, settings),
        "server": _embed(passages.embed_documents, queries.embed_query, settings),
        "found": store.similarity_search(settings["documents"][3], k=1)[0].page_content,
    }


def llama_index(target: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    prompts = target["prompts"]
    folder = HuggingFaceEmbedding(
        model_name=target["folder"],
        device="cpu",
        query_instruction=prompts.get("query"),
        text_instruction=prompts.get("document"),
    )
    options = {"api_base": target["base_url"], "api_key": settings["key"]}
    passages = OpenAILikeEmbedding(model_name=target["name"], **options)
    queries = OpenAILikeEmbedding(model_name=f"{target['name']}:query", **options)
    return {
        "folder": _embed(folder.get_text_embedding_batch, folder.get_query_embedding, settings),
        "server": _embed(passages.get_text_embedding_batch, queries.get_query_embedding, settings),
    }


def chroma(target: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    import chromadb
    from chromadb.utils.embedding_functions import OpenAIEmbeddingFunction, SentenceTransformerEmbeddingFunction

    folder = SentenceTransformerEmbeddingFunction(target["folder"], device="cpu")
    options = {"api_base": target["base_url"], "api_key": settings["key"]}
    passages = OpenAIEmbeddingFunction(model_name=target["name"], **options)
    queries = OpenAIEmbeddingFunction(model_name=f"{target['name']}:query", **options)
    collection = chromadb.EphemeralClient().create_collection(f"trial-{target['name']}", embedding_function=passages)
    collection.add(ids=list(map(str, range(len(settings["documents"])))), documents=settings["documents"])
    found = collection.query(query_texts=[settings["documents"][3]], n_results=1)
    return {
        "folder": _embed(folder, lambda text: folder([text])[0], settings),
        "server": _embed(passages, lambda text: queries([text])[0], settings),
        "found": found["documents"][0][0],
    }


def semantic_kernel(target: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    from openai import AsyncOpenAI
    from semantic_kernel.connectors.ai.hugging_face import HuggingFaceTextEmbedding
    from semantic_kernel.connectors.ai.open_ai import OpenAITextEmbedding

    async def run() -> dict[str, Any]:
        client = AsyncOpenAI(base_url=target["base_url"], api_key=settings["key"])
        folder = HuggingFaceTextEmbedding(ai_model_id=target["folder"])
        passages = OpenAITextEmbedding(ai_model_id=target["name"], async_client=client)
        queries = OpenAITextEmbedding(ai_model_id=f"{target['name']}:query", async_client=client)
        documents, asked = settings["documents"], settings["queries"]
        made = {
            "folder": {
                "documents": _lists(await folder.generate_embeddings(documents)),
                "queries": _lists(await folder.generate_embeddings(asked)),
            },
            "server": {
                "documents": _lists(await passages.generate_embeddings(documents)),
                "queries": _lists(await queries.generate_embeddings(asked)),
            },
        }
        await client.close()
        return made

    return asyncio.run(run())


def _embed(
    documents: Callable[[list[str]], Any], query: Callable[[str], Any], settings: dict[str, Any]
) -> dict[str, Vectors]:
    return {
        "documents": _lists(documents(settings["documents"])),
        "queries": _lists([query(text) for text in settings["queries"]]),
    }


def _lists(vectors: Any) -> Vectors:
    return [[float(value) for value in vector] for vector in vectors]


def main(client: str, settings_file: str, out: str) -> None:
    # An import of m3e fails from here on; so does one from beside this file, whose name a client's module might have.
    sys.modules["m3e"] = None  # type: ignore[assignment]
    sys.path.remove(str(Path(__file__).parent))
    settings = json.loads(Path(settings_file).read_text("utf-8"))
    use = {each.__name__: each for each in (openai, langchain, llama_index, chroma, semantic_kernel)}[client]
    Path(out).write_text(json.dumps({target["name"]: use(target, settings) for target in settings["targets"]}), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
