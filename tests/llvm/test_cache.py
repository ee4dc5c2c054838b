"""The cache on disk: what it finds again, and what it does not trust."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skep.llvm import cache, host


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "cache"
    monkeypatch.setenv("SKEP_CACHE", str(home))
    return home


def entry(folder: Path) -> Path:
    (found,) = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return found


def test_round_trip(folder: Path) -> None:
    assert cache.lookup("kind", b"a", b"b") is None
    assert cache.store("kind", b"code", b"a", b"b")
    assert cache.lookup("kind", b"a", b"b") == b"code"
    # Parts are delimited, and the kind counts.
    assert cache.lookup("kind", b"ab") is None
    assert cache.lookup("kind", b"", b"ab") is None
    assert cache.lookup("other", b"a", b"b") is None
    assert folder.stat().st_mode & 0o777 == 0o700
    assert entry(folder).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("at", [0, 5, 25, 60, -1])
def test_one_wrong_bit_is_a_miss(folder: Path, at: int) -> None:
    cache.store("kind", b"code" * 20, b"a")
    path = entry(folder)
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    assert cache.lookup("kind", b"a") is None


def test_every_truncation_is_a_miss(folder: Path) -> None:
    cache.store("kind", b"code", b"a")
    path = entry(folder)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert cache.lookup("kind", b"a") is None
    path.write_bytes(data + b"x")
    assert cache.lookup("kind", b"a") is None


def test_what_others_may_write_is_not_trusted(folder: Path) -> None:
    cache.store("kind", b"code", b"a")
    path = entry(folder)
    path.chmod(0o622)
    assert cache.lookup("kind", b"a") is None
    path.chmod(0o600)
    folder.chmod(0o777)
    assert cache.lookup("kind", b"a") is None
    assert not cache.store("kind", b"code", b"b")
    folder.chmod(0o700)
    assert cache.lookup("kind", b"a") == b"code"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_another_users_files_are_not_trusted(folder: Path) -> None:
    cache.store("kind", b"code", b"a")
    path = entry(folder)
    os.chown(path, 12345, -1)
    assert cache.lookup("kind", b"a") is None
    os.chown(path, 0, -1)
    os.chown(folder, 12345, -1)
    assert cache.lookup("kind", b"a") is None


def test_links_and_pipes_are_not_followed(folder: Path, tmp_path: Path) -> None:
    cache.store("kind", b"code", b"a")
    path = entry(folder)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert cache.lookup("kind", b"a") is None
    path.unlink()
    os.mkfifo(path, 0o600)
    assert cache.lookup("kind", b"a") is None


def test_a_folder_that_cannot_be_made_is_silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKEP_CACHE", str(tmp_path / "file" / "below"))
    assert not cache.store("kind", b"code", b"a")
    assert cache.lookup("kind", b"a") is None
    monkeypatch.setenv("SKEP_CACHE", "")
    assert cache.directory() is None
    assert not cache.store("kind", b"code", b"a")


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKEP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.directory() == "/somewhere/skep"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the XDG specification: to be ignored
    monkeypatch.setenv("HOME", "/home/bee")
    assert cache.directory() == "/home/bee/.cache/skep"


def test_other_processors_and_versions_miss(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store("kind", b"code", b"a")
    with monkeypatch.context() as patch:
        patch.setattr(host, "processor", lambda: b"another")
        assert cache.lookup("kind", b"a") is None
    with monkeypatch.context() as patch:
        patch.setattr(host, "llvm_version", lambda: b"another")
        assert cache.lookup("kind", b"a") is None
    with monkeypatch.context() as patch:  # a machine without LLVM takes what there is
        patch.setattr(host, "llvm_version", lambda: None)
        assert cache.lookup("kind", b"a") == b"code"
    with monkeypatch.context() as patch:
        patch.setattr(host, "processor", lambda: None)
        assert cache.lookup("kind", b"a") is None
        assert not cache.store("kind", b"code", b"a")


def test_the_least_recently_used_go_first(folder: Path) -> None:
    for number in range(8):
        cache.store("kind", b"x" * 1000, b"%d" % number)
    paths = sorted(folder.iterdir())
    for age, path in enumerate(paths):
        os.utime(path, (1000 - age, 1000 - age))
    stranger = folder / "not-ours"
    stranger.write_bytes(b"x" * 100_000)
    cache.sweep(str(folder), max_entries=5)
    assert sorted(path for path in folder.iterdir() if path != stranger) == paths[:5]
    cache.sweep(str(folder), max_bytes=2500)
    assert sorted(path for path in folder.iterdir() if path != stranger) == paths[:2]
    assert stranger.exists()


def test_answers_to_relocations_are_swept_too(folder: Path) -> None:
    """They lie in the same folder: old ones go, and what a killed process left; others' files stay."""
    folder.mkdir(exist_ok=True)
    answers = [folder / f"core-{number:032x}" for number in range(6)]
    left = folder / f"core-{7:032x}.4711.tmp"
    strangers = [folder / name for name in ("core-dump", "core.1234", f"core-{1:031x}", "my.tmp")]
    for age, path in enumerate([*answers, left, *strangers]):
        path.write_bytes(b"x")
        os.utime(path, (1000 - age, 1000 - age))
    cache.sweep(str(folder), max_entries=2)
    assert sorted(folder.iterdir()) == sorted([*answers[:2], *strangers])


def test_a_warm_start_imports_no_llvm(folder: Path) -> None:
    script = (
        "import sys\n"
        "from skep.llvm import cache, native\n"
        "cache.lookup('kind', b'a')\n"
        "heavy = {'llvmlite', 'subprocess', 'dataclasses', 'inspect', 'ast', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
