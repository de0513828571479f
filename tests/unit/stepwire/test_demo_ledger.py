from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stepwire.demo.ledger import Execution, LedgerError, add_execution, create_ledger, read_ledger

ONE = Execution("t", "note", 1)


def test_every_execution_is_kept_in_order(tmp_path: Path) -> None:
    path = tmp_path / "demo" / "ledger"
    create_ledger(path)
    add_execution(path, ONE)
    add_execution(path, Execution("t", "note", 2))
    assert read_ledger(path) == [ONE, Execution("t", "note", 2)]


def test_executions_added_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    create_ledger(path)
    executions = [Execution(f"task-{number}", "split", 1) for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda execution: add_execution(path, execution), executions))
    assert sorted(read_ledger(path), key=str) == sorted(executions, key=str)


def test_a_new_ledger_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    create_ledger(path)
    add_execution(path, ONE)
    create_ledger(path)
    assert read_ledger(path) == []


def test_a_worker_writes_to_nothing_but_a_ledger(tmp_path: Path) -> None:
    other = tmp_path / "precious"
    other.write_text("keep me")
    with pytest.raises(LedgerError, match="is not a ledger"):
        add_execution(other, ONE)
    assert other.read_text() == "keep me"
    with pytest.raises(LedgerError, match="is not a ledger"):
        add_execution(tmp_path / "missing", ONE)
    assert not (tmp_path / "missing").exists()
    ledger = tmp_path / "ledger"
    create_ledger(ledger)
    (tmp_path / "link").symlink_to(ledger)
    with pytest.raises(LedgerError, match="is not a ledger"):
        add_execution(tmp_path / "link", ONE)


def test_a_broken_line_is_told_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    create_ledger(path)
    add_execution(path, ONE)
    with path.open("a") as file:
        file.write('["t", "no')
    with pytest.raises(LedgerError, match="line 3"):
        read_ledger(path)


def test_a_file_that_is_not_a_ledger_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with pytest.raises(LedgerError, match="is not a ledger"):
        read_ledger(path)
