"""Guessing hidden tokens: the head is the architecture's own, the loss that of a plain loop."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from m3e import load
from m3e.errors import SettingsError
from m3e.training import token_prediction
from m3e.training.forward import training_form
from m3e.training.masking import mask_words
from m3e.training.token_prediction import MaskedTokenLoss, TokenPrediction, attached
from tests.training.masked_model import tokens_of, write_masked

TEXTS = [
    "今天天气很好我们去公园",
    "怎么退货",
    "abc def地址",
    "快递到哪了，发票在这里有会员积分猫狗树叶黄番茄" * 2,
    "猫",
    "好的",
]
SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
CONFIGS = {
    "bert": transformers.BertConfig(**SMALL),
    "roberta": transformers.RobertaConfig(**SMALL),
    "xlm-roberta": transformers.XLMRobertaConfig(**SMALL),
    "electra": transformers.ElectraConfig(**SMALL, embedding_size=16),
    "distilbert": transformers.DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=32),
    "modernbert": transformers.ModernBertConfig(**SMALL, pad_token_id=0, bos_token_id=1, eos_token_id=2),
}


@pytest.fixture
def model(tmp_path: Path) -> Any:
    write_masked(tmp_path / "masked")
    return load(tmp_path / "masked", device="cpu")


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_scores_are_those_of_the_whole_masked_language_model(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = transformers.AutoModelForMaskedLM.from_config(CONFIGS[kind]).eval()
    whole.save_pretrained(str(tmp_path))
    encoder = transformers.AutoModel.from_pretrained(str(tmp_path)).eval()
    head = TokenPrediction(encoder, tmp_path).eval()
    assert not head.is_new
    ids = torch.arange(3, 12)[None]
    mask = torch.ones_like(ids)
    hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = whole(input_ids=ids, attention_mask=mask).logits[0]
    assert torch.allclose(head(hidden[0]), expected, atol=1e-5)
    assert any(parameter is encoder.get_input_embeddings().weight for parameter in head.parameters())


def test_a_folder_without_a_head_gets_a_new_one(model: Any, tmp_path: Path) -> None:
    heads = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        heads.append(TokenPrediction(model[0].model, tmp_path / "masked"))
    assert all(head.is_new for head in heads)
    weights = [dict(head.named_parameters())["whole.cls.predictions.transform.dense.weight"] for head in heads]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert heads[0].whole.cls.predictions.decoder.weight is model[0].model.embeddings.word_embeddings.weight


def test_decoders_are_refused(tmp_path: Path) -> None:
    decoder = transformers.GPT2Model(transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2))
    with pytest.raises(SettingsError, match="type gpt2 cannot be trained by masked tokens"):
        TokenPrediction(decoder, tmp_path)


def test_attached_modules_are_trained_and_gone_afterwards(model: Any) -> None:
    before = {name for name, _ in model.named_parameters()}
    with attached(model, prediction=nn.Linear(2, 2)):
        assert {name for name, _ in model.named_parameters()} - before == {"0.prediction.weight", "0.prediction.bias"}
        model.encode(["今天"])
    assert {name for name, _ in model.named_parameters()} == before


def naive(model: Any, head: Any, texts: list[str], seed: int, share: float, loss: MaskedTokenLoss) -> torch.Tensor:
    """Text by text, token by token."""
    batch = tokens_of(model, texts)
    torch.manual_seed(seed)
    random = np.random.default_rng(int(torch.randint(1 << 60, ())))
    seen, hidden = mask_words(batch.ids, batch.starts, loss.table, share, random)
    terms = []
    for text in range(len(texts)):
        part = slice(batch.starts[text], batch.starts[text + 1])
        states = model[0].model(input_ids=torch.from_numpy(seen[part].astype(np.int64))[None]).last_hidden_state[0]
        for place in np.flatnonzero(hidden[part]).tolist():
            scores = head(states[place][None])[0]
            terms.append(scores.logsumexp(0) - scores[int(batch.ids[part][place])])
    return torch.stack(terms).mean()


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("budget", [1000, 24])
@pytest.mark.parametrize("scores_at_once", [1 << 25, 400])
def test_loss_and_gradients_are_those_of_a_plain_loop(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, joined: bool, budget: int, scores_at_once: int
) -> None:
    monkeypatch.setattr(token_prediction, "_SCORES_AT_ONCE", scores_at_once)
    torch.manual_seed(5)
    head = TokenPrediction(model[0].model, tmp_path / "masked")
    model.double().eval()
    head.double().eval()
    loss = MaskedTokenLoss(model, head, masked=0.4, token_budget=budget)
    parameters = {**dict(model.named_parameters()), **dict(head.named_parameters())}
    expected = naive(model, head, TEXTS, 7, 0.4, loss)
    expected.backward()
    wanted = {name: value.grad.clone() for name, value in parameters.items() if value.grad is not None}
    for value in parameters.values():
        value.grad = None
    with training_form(model) if joined else contextlib.nullcontext():
        torch.manual_seed(7)
        found = loss(tokens_of(model, TEXTS))
        found.backward()
    assert found.item() == pytest.approx(expected.item(), abs=1e-9)
    assert {name for name, value in parameters.items() if value.grad is not None} == set(wanted)
    for name, gradient in wanted.items():
        assert torch.allclose(parameters[name].grad, gradient, atol=1e-9), name
    assert loss.work.rows == len(TEXTS)
    assert loss.work.tokens == len(tokens_of(model, TEXTS).ids)


def test_without_gradients_nothing_is_propagated(model: Any, tmp_path: Path) -> None:
    head = TokenPrediction(model[0].model, tmp_path / "masked")
    loss = MaskedTokenLoss(model.eval(), head, masked=0.4)
    values = []
    for context in (torch.no_grad(), contextlib.nullcontext()):
        torch.manual_seed(0)
        with context:
            values.append(loss(tokens_of(model, TEXTS)))
    assert not values[0].requires_grad
    assert float(values[0]) == pytest.approx(float(values[1]), rel=1e-5)


@pytest.mark.parametrize("precision", ["autocast", "bf16"])
def test_half_the_bits_give_about_the_same(model: Any, tmp_path: Path, precision: Any) -> None:
    torch.manual_seed(5)
    head = TokenPrediction(model[0].model, tmp_path / "masked").eval()
    model.eval()
    values, gradients = [], []
    for each in ("fp32", precision):
        model.zero_grad()
        torch.manual_seed(0)
        with training_form(model):
            values.append(float(MaskedTokenLoss(model, head, masked=0.4, precision=each)(tokens_of(model, TEXTS))))
        gradients.append(model[0].model.encoder.layer[0].output.dense.weight.grad.clone().flatten())
    assert values[1] == pytest.approx(values[0], rel=0.02)
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99
