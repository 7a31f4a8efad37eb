"""Running the application: a socket first, then the model, then requests until a signal."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

from m3e.errors import MissingExtraError, SettingsError
from m3e.serving.logs import log, log_config

if TYPE_CHECKING:
    from fastapi import FastAPI

_BACKLOG = 2048


def open_socket(host: str, port: int) -> socket.socket:
    """A bound socket, not yet listening; ``port`` 0 takes a free one.

    Raises:
        SettingsError: the port is taken or the address is not ours.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"--host {host}: {error.strerror or error}") from error
    if os.name == "posix":  # elsewhere it would let two servers share a port
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except (OSError, OverflowError) as error:
        bound.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(f"{host}:{port} cannot be used: {reason}; choose another --port or --host") from error
    return bound


def serve(app: FastAPI, bound: socket.socket, *, log_level: str = "info") -> None:
    """Answer requests until SIGTERM or SIGINT; what was accepted is finished first. A second signal ends at once.

    Args:
        app: of :func:`m3e.serving.create_app`.
        bound: of :func:`open_socket`.
        log_level: ``debug``, ``info`` (a line for every request), ``warning`` or ``error``.

    Raises:
        MissingExtraError: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError("uvicorn", "serve") from error

    service = app.state.service

    class Server(uvicorn.Server):
        """Uvicorn that goes on answering (503) while accepted requests are finished, and exits with 0."""

        def handle_exit(self, sig: int, frame: Any) -> None:
            if service.stopping:
                signal.signal(sig, signal.SIG_DFL)
                signal.raise_signal(sig)
            service.stopping = True

        async def on_tick(self, counter: int) -> bool:
            if service.stopping and service.open_requests == 0:
                return True
            return bool(await super().on_tick(counter))

    config = uvicorn.Config(
        app,
        log_config=log_config(log_level),
        log_level=None,
        access_log=False,
        ws="none",
        lifespan="on",
        backlog=_BACKLOG,
        server_header=False,
        timeout_keep_alive=75,
    )
    _raise_file_limit()
    gc.collect()
    gc.freeze()  # the model's objects stay; looking through them again and again would only cost pauses
    log(logging.INFO, "started", model=service.ids.name, address=list(bound.getsockname()[:2]))
    Server(config).run(sockets=[bound])
    log(logging.INFO, "stopped")


def _raise_file_limit() -> None:
    """As many open connections as the system allows: an overload is answered with 429, not with silence."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65536, hard))
