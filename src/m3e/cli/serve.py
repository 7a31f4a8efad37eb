"""``m3e serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from m3e.cli import app
from m3e.cli.terminal import complain, say
from m3e.errors import SettingsError

_LOCAL = ("127.0.0.1", "::1", "localhost")


@app.command()
def serve(
    model: str = typer.Argument(help="A name (m3e models), a folder, or a hub id."),
    host: str = typer.Option("127.0.0.1", "--host", help="The address to listen at; 0.0.0.0 for all."),
    port: int = typer.Option(8000, "--port", min=0, max=65535, help="0 takes a free one and prints it."),
    api_key: list[str] = typer.Option([], "--api-key", help="Requests need one of the keys; may be repeated."),
    api_keys_file: Path | None = typer.Option(None, "--api-keys-file", help="Keys, one a line; also M3E_API_KEYS."),
    alias: list[str] = typer.Option([], "--alias", help="One more name, ALIAS or ALIAS=NAME:query; may be repeated."),
    store: str | None = typer.Option(None, "--store", help="A vector store by URL (m3e index), for /v1/search."),
    max_batch_tokens: int = typer.Option(2048, "--max-batch-tokens", min=1, help="Tokens encoded at once."),
    queue_tokens: int = typer.Option(2**19, "--queue-tokens", min=1, help="429 while so many tokens wait."),
    queue: int = typer.Option(512, "--queue", min=1, help="429 while so many requests wait."),
    max_body: int = typer.Option(32 * 2**20, "--max-body", min=1, help="Bytes of a request's body."),
    max_items: int = typer.Option(2048, "--max-items", min=1, help="Texts in one request."),
    cors: list[str] = typer.Option([], "--cors", help="A web origin whose pages may call, or *; may be repeated."),
    backend: str = typer.Option("auto", "--backend", help="auto, torch, openvino, onnx or static."),
    dtype: str = typer.Option("auto", "--dtype", help="auto, fp32 or bf16: of the computation; vectors are fp32."),
    dim: int | None = typer.Option(None, "--dim", min=1, help="Keep the first numbers only, scaled to length 1."),
    device: str | None = typer.Option(None, "--device", help="cpu, cuda, …"),
    log_level: str = typer.Option("info", "--log-level", help="debug, info, warning or error."),
) -> None:
    """Serve a model by OpenAI's API (/v1/embeddings), with a page to try it."""
    from m3e.inference import Encoder
    from m3e.models.loading import resolve_name
    from m3e.models.readme import read_card
    from m3e.serving import ServeOptions, create_app
    from m3e.serving import serve as run
    from m3e.serving.keys import read_keys
    from m3e.serving.logs import LEVELS
    from m3e.serving.options import parse_aliases
    from m3e.serving.server import open_socket

    if log_level not in LEVELS:
        raise SettingsError(f"--log-level {log_level!r} is not known; choose {', '.join(LEVELS)}")
    name = resolve_name(model)
    options = ServeOptions(
        aliases=parse_aliases(alias, name),
        keys=read_keys(api_key, api_keys_file),
        origins=tuple(cors),
        max_body=max_body,
        max_items=max_items,
        round_tokens=max_batch_tokens,
        queue_tokens=queue_tokens,
        queue_requests=queue,
    )
    with open_socket(host, port) as bound:
        encoder = Encoder(model, backend=backend, dtype=dtype, dim=dim, device=device)  # type: ignore[arg-type]  # checked there
        api = create_app(encoder, name, options, store=_open_store(store), card=read_card(model))
        service = api.state.service
        say(f"{name}: {encoder.dimension} numbers, {encoder.description}; ready in {service.warm_up():.1f} s")
        bound.listen()
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{bound.getsockname()[1]}/v1 serves {', '.join(service.ids.all)}")
        if not options.keys and host not in _LOCAL:
            complain(f"no key is set, so whoever reaches {host} can use this server; set --api-keys-file")
        run(api, bound, log_level=log_level)


def _open_store(url: str | None) -> Any:
    if url is None:
        return None
    from m3e.retrieval import open_store

    return open_store(url)
