"""RetroMAE: what the decoder sees, what it guesses, and that its gradient reaches the encoder."""

from __future__ import annotations

import contextlib
import math
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3e import load
from m3e.errors import SettingsError
from m3e.training import retromae, token_prediction
from m3e.training.forward import training_form
from m3e.training.masking import mask_words
from m3e.training.retromae import EnhancedDecoder, RetroMaeLoss, visible_tokens
from m3e.training.token_prediction import TokenPrediction
from tests.training import masked_worker
from tests.training.masked_model import tokens_of, write_masked

TEXTS = ["今天天气很好我们去公园", "怎么退货", "abc def地址", "快递到哪了，发票在这里有会员积分", "猫"]


def parts(folder: Path, pooling: str = "mean") -> tuple[Any, Any, Any]:
    write_masked(folder, pooling=pooling)
    model = load(folder, device="cpu")
    torch.manual_seed(1)
    head = TokenPrediction(model[0].model, folder)
    decoder = EnhancedDecoder.for_model(model)
    return model.double().eval(), head.double().eval(), decoder.double().eval()


def test_a_position_sees_a_share_of_the_others_and_always_the_vector() -> None:
    torch.manual_seed(0)
    is_token = torch.ones(30, 40, dtype=torch.bool)
    is_token[:, 25:] = False
    seen = visible_tokens(is_token, 0.5)
    assert seen[:, :, 0].all()
    assert not seen[:, :, 25:].any()
    assert not seen[:, range(1, 40), range(1, 40)].any()
    others = torch.ones(40, 40, dtype=torch.bool) & ~torch.eye(40, dtype=torch.bool)
    others[:, 0] = others[:, 25:] = False
    assert float(seen[:, others].float().mean()) == pytest.approx(0.5, abs=0.01)
    assert float(visible_tokens(is_token, 0.9)[:, others].float().mean()) == pytest.approx(0.1, abs=0.01)
    assert not torch.equal(seen[0, 1, 2:25], seen[0, 2, 2:25])  # each position has its own


def attend(decoder: EnhancedDecoder, vector: Any, words: Any, visible: Any) -> torch.Tensor:
    """One text, position by position and head by head, by the paper's formulas."""
    width, hidden = words.shape
    size = hidden // decoder.heads
    content = [vector] + [decoder.content_norm(words[at] + decoder.positions.weight[at]) for at in range(1, width)]
    rows = []
    for at in range(width):
        query = vector + decoder.positions.weight[at]
        seen = [other for other in range(width) if visible[at, other]]
        projected = decoder.query(query)
        found = []
        for head in range(decoder.heads):
            part = slice(head * size, (head + 1) * size)
            scores = torch.stack(
                [projected[part] @ decoder.key(content[other])[part] / math.sqrt(size) for other in seen]
            )
            weights = scores.softmax(0)
            found.append(
                sum(weight * decoder.value(content[other])[part] for weight, other in zip(weights, seen, strict=True))
            )
        state = decoder.attention_norm(query + decoder.output(torch.cat(found)))
        rows.append(decoder.output_norm(state + decoder.down(torch.nn.functional.gelu(decoder.up(state)))))
    return torch.stack(rows)


def test_the_decoder_is_the_papers(tmp_path: Path) -> None:
    _, _, decoder = parts(tmp_path)
    torch.manual_seed(2)
    vectors = torch.randn(3, 32, dtype=torch.float64)
    words = torch.randn(3, 7, 32, dtype=torch.float64)
    is_token = torch.arange(7) < torch.tensor([7, 4, 6])[:, None]
    visible = visible_tokens(is_token, 0.5)
    found = decoder(vectors, words, visible)
    for text in range(3):
        assert torch.allclose(found[text], attend(decoder, vectors[text], words[text], visible[text]), atol=1e-10)


def all_others(is_token: torch.Tensor, masked: float) -> torch.Tensor:
    """What is seen, decided by nothing but the places: every other one of the others."""
    width = is_token.shape[1]
    places = torch.arange(width)
    seen = ((places[:, None] + places[None]) % 2 == 1)[None] & is_token[:, None, :]
    seen[:, :, 0] = True
    return seen


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("budget", [1000, 24])
def test_loss_and_gradients_are_those_of_a_plain_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, joined: bool, pooling: str, budget: int
) -> None:
    monkeypatch.setattr(retromae, "visible_tokens", all_others)
    model, head, decoder = parts(tmp_path, pooling)
    loss = RetroMaeLoss(model, head, decoder, masked=0.4, decoder_masked=0.5, token_budget=budget)
    named = {**dict(model.named_parameters()), **dict(head.named_parameters()), **dict(decoder.named_parameters())}
    batch = tokens_of(model, TEXTS)
    torch.manual_seed(7)
    random = np.random.default_rng(int(torch.randint(1 << 60, ())))
    seen, hidden = mask_words(batch.ids, batch.starts, loss.table, 0.4, random)
    encoder = model[0].model
    of_encoder, of_decoder = [], []
    for text in range(len(TEXTS)):
        part = slice(batch.starts[text], batch.starts[text + 1])
        ids = torch.from_numpy(batch.ids[part].astype(np.int64))
        states = encoder(input_ids=torch.from_numpy(seen[part].astype(np.int64))[None]).last_hidden_state[0]
        vector = states[0] if pooling == "cls" else states.mean(0)
        visible = all_others(torch.ones(1, len(ids), dtype=torch.bool), 0.5)[0]
        rebuilt = attend(decoder, vector, encoder.embeddings.word_embeddings(ids), visible)
        for place, token in enumerate(ids.tolist()):
            if hidden[part][place]:
                of_encoder.append(torch.nn.functional.cross_entropy(head(states[place][None])[0], ids[place]))
            if token > 4:  # no special token
                of_decoder.append(torch.nn.functional.cross_entropy(head(rebuilt[place][None])[0], ids[place]))
    expected = torch.stack(of_encoder).mean() + torch.stack(of_decoder).mean()
    expected.backward()
    wanted = {name: value.grad.clone() for name, value in named.items() if value.grad is not None}
    for value in named.values():
        value.grad = None
    with training_form(model) if joined else contextlib.nullcontext():
        torch.manual_seed(7)
        found = loss(batch)
        found.backward()
    assert found.item() == pytest.approx(expected.item(), abs=1e-9)
    assert {name for name, value in named.items() if value.grad is not None} == set(wanted)
    for name, gradient in wanted.items():
        assert torch.allclose(named[name].grad, gradient, atol=1e-9), name


def test_the_decoders_gradient_reaches_the_encoder_through_the_vector_alone(tmp_path: Path) -> None:
    model, head, decoder = parts(tmp_path)
    loss = RetroMaeLoss(model, head, decoder, masked=0.0, decoder_masked=0.5)  # nothing for the encoder to guess
    loss(tokens_of(model, TEXTS))
    assert all(float(layer.output.dense.weight.grad.norm()) > 1e-6 for layer in model[0].model.encoder.layer)
    model.zero_grad()
    with torch.no_grad():
        decoder.positions.weight.zero_()
    # a vector that the decoder does not get moves nothing
    model[1].register_forward_hook(
        lambda _, __, output: {**output, "sentence_embedding": output["sentence_embedding"].detach()}
    )
    loss(tokens_of(model, TEXTS))
    assert all(layer.output.dense.weight.grad is None for layer in model[0].model.encoder.layer)


def test_two_processes_are_one_on_the_joined_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((token_prediction, "mask_words"), (retromae, "visible_tokens")):
        monkeypatch.setattr(module, name, getattr(module, name))  # the worker puts its own there
    folder = write_masked(tmp_path / "model")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.masked_worker", str(rank), port, str(folder)],
            cwd=Path(__file__).parent.parent.parent,
            stderr=subprocess.PIPE,
        )
        for rank in (0, 1)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=240)
        assert worker.returncode == 0, errors.decode()[-2000:]
    value, gradients = masked_worker.gradients_of(folder, 0, 1)
    for rank in (0, 1):
        found, others = torch.load(tmp_path / f"rank-{rank}.pt")
        assert found == pytest.approx(value, abs=1e-9)
        assert others.keys() == gradients.keys()
        assert all(torch.allclose(others[name], each, atol=1e-9) for name, each in gradients.items())


def test_positions_start_as_the_encoders(tmp_path: Path) -> None:
    model, _, decoder = parts(tmp_path)
    assert torch.equal(decoder.positions.weight, model[0].model.embeddings.position_embeddings.weight)


def test_two_poolings_are_refused(tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling

    write_masked(tmp_path)
    model = load(tmp_path, device="cpu")
    model[1] = Pooling(32, ("cls", "mean"))
    with pytest.raises(SettingsError, match="vectors of 64 numbers from tokens of 32"):
        EnhancedDecoder.for_model(model)
