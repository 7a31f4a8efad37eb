"""The losses' formulas as plain loops over rows and candidates, of numbers that gradients flow through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Columns = list[Tensor]
Ids = list[list[int]]


def cosine(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum() / (left.square().sum().sqrt() * right.square().sum().sqrt())


def log_sum(values: list[Tensor]) -> Tensor:
    largest = max(value.item() for value in values)
    return sum((value - largest).exp() for value in values).log() + largest


def in_batch_softmax(
    columns: Columns,
    ids: Ids,
    temperature: float,
    directions: tuple[str, ...] = ("query_to_doc", "doc_to_query"),
    own_margin: float = 99,
) -> Tensor:
    batch, terms = len(ids), []
    for i in range(batch):
        own = cosine(columns[0][i], columns[1][i])
        documents, queries = [own], [own]
        for at in range(1, len(columns)):
            for j in range(batch):
                value = cosine(columns[0][i], columns[at][j])
                same = ids[j][at] in (ids[i][0], ids[i][1], 0) or (at == 1 and ids[j][0] == ids[i][0])
                if (at == 1 and j == i) or same or (j != i and value > own + own_margin):
                    continue
                documents.append(value)
        for j in range(batch):
            value = cosine(columns[0][j], columns[1][i])
            equal = ids[j][0] == ids[i][0] or ids[j][1] == ids[i][1] or ids[j][0] == ids[i][1]
            if j != i and not equal and not value > own + own_margin:
                queries.append(value)
        sides = {"query_to_doc": documents, "doc_to_query": queries}
        terms += [log_sum([each / temperature for each in sides[name]]) - own / temperature for name in directions]
    return sum(terms) / len(terms)


def ordered(similarities: list[Tensor], labels: list[float], temperature: float) -> Tensor:
    total = torch.ones((), dtype=torch.float64)
    for i, lower in enumerate(similarities):
        for j, higher in enumerate(similarities):
            if labels[i] < labels[j]:
                total = total + ((lower - higher) / temperature).exp()
    return total.log()


def cosent(columns: Columns, labels: list[float], temperature: float) -> Tensor:
    return ordered([cosine(left, right) for left, right in zip(*columns, strict=True)], labels, temperature)


def angle(columns: Columns, labels: list[float], temperature: float, cosine_weight: float, weight: float) -> Tensor:
    """As in AnglE's code: the quotient of two complex vectors, its lengths divided out, its parts summed."""
    similarities = []
    for left, right in zip(*columns, strict=True):
        half = len(left) // 2
        lengths = left.square().sum().sqrt() * right.square().sum().sqrt()
        total = torch.zeros((), dtype=torch.float64)
        for k in range(half):
            a, b, c, d = left[k], left[half + k], right[k], right[half + k]
            total = total + (a * c + b * d) / lengths + (b * c - a * d) / lengths
        similarities.append(total.abs())
    by_angle = ordered(similarities, labels, temperature)
    return cosine_weight * cosent(columns, labels, temperature) + weight * by_angle


def kl(columns: Columns, ids: Ids, scores: list[list[float]], temperature: float, of_teacher: float) -> Tensor:
    rows = []
    for i, mine in enumerate(scores):
        candidates = [at for at, score in enumerate(mine) if score == score and ids[i][at + 1] != 0]
        if len(candidates) < 2:
            continue
        student = [cosine(columns[0][i], columns[at + 1][i]) / temperature for at in candidates]
        teacher = [torch.tensor(mine[at] / of_teacher, dtype=torch.float64) for at in candidates]
        both = zip(student, teacher, strict=True)
        pairs = [(mark - log_sum(teacher), guess - log_sum(student)) for guess, mark in both]
        rows.append(sum(wanted.exp() * (wanted - found) for wanted, found in pairs))
    return sum(rows) / len(rows)


def margin_mse(columns: Columns, ids: Ids, scores: list[list[float]], scale: float) -> Tensor:
    rows = []
    for i, mine in enumerate(scores):
        squares = []
        for at in range(1, len(mine)):
            if mine[0] == mine[0] and mine[at] == mine[at] and 0 not in (ids[i][1], ids[i][at + 1]):
                margin = cosine(columns[0][i], columns[1][i]) - cosine(columns[0][i], columns[at + 1][i])
                squares.append((margin - scale * (mine[0] - mine[at])) ** 2)
        if squares:
            rows.append(sum(squares) / len(squares))
    return sum(rows) / len(rows)


def distil(
    columns: Columns,
    ids: Ids,
    teacher: dict[int, Tensor],
    spread: float,
    temperature: float,
    weights: tuple[float, float, float],
) -> Tensor:
    """``weights`` of the cosines, the contrast and the relations."""
    texts = [
        (ids[i][at], columns[at][i], teacher[ids[i][at]])
        for at in range(len(columns))
        for i in range(len(ids))
        if ids[i][at] in teacher
    ]
    total: Any = 0
    for name, student, target in texts:
        others = [(vector, mark) for other, vector, mark in texts if other != name]
        width = len(student)
        own = cosine(student, target[:width])
        total = total + weights[0] * (1 - own)
        logits = [cosine(student, mark[:width]) / temperature for _, mark in others]
        total = total + weights[1] * (log_sum([own / temperature, *logits]) - own / temperature)
        changes = [((cosine(student, vector) - target @ mark) / spread) ** 2 for vector, mark in others]
        total = total + weights[2] * sum(changes) / max(1, len(changes))
    return total / len(texts)


def matryoshka(columns: Columns, weights: dict[int, float], loss_at: Any) -> Tensor:
    return sum(weight * loss_at([column[:, :dim] for column in columns]) for dim, weight in weights.items())


def distil_by_relations(columns: Columns, ids: Ids, teacher: dict[int, Tensor], spread: float) -> Tensor:
    """The relations alone, of vectors with more numbers than the teacher's."""
    texts = [(ids[i][at], columns[at][i]) for at in range(len(columns)) for i in range(len(ids))]
    texts = [each for each in texts if each[0] in teacher]
    total: Any = 0
    for name, student in texts:
        others = [(other, vector) for other, vector in texts if other != name]
        changes = [(cosine(student, vector) - teacher[name] @ teacher[other]) / spread for other, vector in others]
        total = total + sum(change**2 for change in changes) / len(changes)
    return total / len(texts)
