import socket
import sys

import datasets
import pytest

from m3e.data import hub
from m3e.data.reading import read_records, read_splits
from m3e.errors import DataError, HubUnreachableError
from m3e.records import Pair


@pytest.fixture
def online(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)


@pytest.fixture
def reachable(monkeypatch, online):
    monkeypatch.setattr(hub, "_hub_answers", lambda: True)


@pytest.mark.parametrize(
    ("text", "is_id"),
    [
        ("org/name", True),
        ("org-1/name.v2:config", True),
        ("org/name:", False),
        ("name", False),
        ("a/b/c", False),
        ("../name", False),
        ("./name", False),
        ("/data/x", False),
        ("组织/数据", False),
        ("org/na me", False),
    ],
)
def test_the_form_of_a_hub_id(text, is_id):
    assert hub.is_hub_id(text) is is_id


def test_a_hub_that_does_not_answer_is_named(monkeypatch, online):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(HubUnreachableError, match=f"org/name.*{address}.*HF_ENDPOINT"):
        read_records("org/name")


def test_offline_mode_is_named(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def load(path, config):
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(HubUnreachableError, match=r"org/name.*HF_HUB_OFFLINE.*HF_ENDPOINT"):
        read_records("org/name")


def test_a_data_set_of_the_hub_is_read_with_its_configuration(monkeypatch, reachable):
    asked = []

    def load(path, config):
        asked.append((path, config))
        rows = {split: [{"text": f"问{split}", "text_pos": "答"}] for split in ("train", "validation", "test")}
        return datasets.DatasetDict({split: datasets.Dataset.from_list(found) for split, found in rows.items()})

    monkeypatch.setattr(datasets, "load_dataset", load)
    train, validation = read_splits("org/name:zh")
    assert asked == [("org/name", "zh")]
    assert train.records == [Pair("问train", "答")]
    assert validation.records == [Pair("问validation", "答")]
    assert train.source == "org/name:zh train"
    assert read_records("org/name").records == train.records
    assert asked[1] == ("org/name", None)


def test_what_the_hub_refuses_is_a_data_error(monkeypatch, reachable):
    def load(path, config):
        raise ValueError("Config name is missing.\nPlease pick one among: ['a', 'b']")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"org/name cannot be loaded .*Config name is missing"):
        read_records("org/name")


def test_reading_needs_no_torch():
    import subprocess

    code = "import sys, m3e.data.reading; sys.exit('torch' in sys.modules or 'datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
