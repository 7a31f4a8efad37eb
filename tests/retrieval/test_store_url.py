from __future__ import annotations

import pytest

from m3e.errors import SettingsError
from m3e.retrieval.stores.url import parse_url


@pytest.mark.parametrize(
    ("url", "scheme", "place", "name"),
    [
        ("./s33", "lance", "./s33", "m3e"),
        ("店/资料", "lance", "店/资料", "m3e"),
        (r"C:\stores\a", "lance", r"C:\stores\a", "m3e"),
        ("lance:/data/s#faq", "lance", "/data/s", "faq"),
        ("chroma:c?collection=b", "chroma", "c", "b"),
        ("chroma:http://h:8000", "chroma", "http://h:8000", "m3e"),
        ("milvus:a/b.db#x_1", "milvus", "a/b.db", "x_1"),
        ("milvus:https://h:19530?collection=c", "milvus", "https://h:19530", "c"),
        ("qdrant:https://h#q", "qdrant", "https://h", "q"),
        ("postgresql://u:p@h:5432/d", "postgresql", "postgresql://u:p@h:5432/d", "m3e"),
        ("postgres://h/d?sslmode=require&collection=c", "postgresql", "postgresql://h/d?sslmode=require", "c"),
        ("postgresql://p:@/d?host=/run/x", "postgresql", "postgresql://p:@/d?host=/run/x", "m3e"),
    ],
)
def test_parts(url: str, scheme: str, place: str, name: str) -> None:
    found = parse_url(url)
    assert (found.scheme, found.place, found.name) == (scheme, place, name)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://h", "redis: is not known"),
        ("s3://bucket/x", "s3: is not known"),
        ("lance:s3://bucket", "s3:// is not known"),
        ("milvus:tcp://h", "tcp:// is not known"),
        ("qdrant:", "names no place"),
        ("", "names no place"),
        ("s#名字", "ASCII"),
        ("s#1a", "ASCII"),
        ("s?collection=" + "x" * 41, "1 to 40"),
        ('s#a"; drop', "ASCII"),
    ],
)
def test_what_is_no_store_is_refused(url: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@h/d", "postgresql://me:***@h/d"),
        ("postgresql://me@h/d#x", "postgresql://me@h/d#x"),
        ("qdrant:http://me:secret@h:6333", "qdrant:http://me:***@h:6333"),
        ("./a@b:c", "./a@b:c"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert parse_url(url).shown == shown
    with pytest.raises(SettingsError) as refused:
        parse_url("redis://me:secret@h")
    assert "secret" not in str(refused.value)
