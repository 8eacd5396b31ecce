"""Saving while every system call in turn fails: the file is the old one or the new one, and nothing lies beside it."""

import errno
import json
import os
import textwrap
from collections import Counter
from contextlib import suppress

import pytest

from carousel.interop import files
from carousel.network import atomic, load, save
from faulty import ERRORS, NEW, OLD, calls_of_atomic, failing, interrupted, watched

SUPPRESSED = {"flock"}  # a file system without locks has none to offer; saving goes on


@pytest.fixture
def path(tmp_path):
    save(OLD, tmp_path / "model")
    return tmp_path / "model"


def good_run(path):
    """The calls of one writer that meets no fault."""
    with watched() as made:
        save(NEW, path)
    assert load(path) == NEW
    save(OLD, path)
    return made


def test_every_call_is_watched(path):
    made = [name for name, *_ in good_run(path)]
    count = Counter(made)
    assert set(count) == {name for _, name in calls_of_atomic()} - {"unlink"}  # only after an error
    assert count["write"] > 3
    assert count["fsync"] == 2


@pytest.mark.parametrize("fault", [*ERRORS, "interrupt"])
def test_every_call_may_fail(path, fault):
    made = good_run(path)
    placed = next(k for k, (name, *_) in enumerate(made) if name == "replace")
    for at, (name, *_) in enumerate(made):
        save(OLD, path)
        with watched(at, ERRORS.get(fault, interrupted)):
            if name in SUPPRESSED and fault != "interrupt":
                save(NEW, path)
            else:
                with pytest.raises(KeyboardInterrupt if fault == "interrupt" else OSError):
                    save(NEW, path)
        expected = NEW if at > placed or (name in SUPPRESSED and fault != "interrupt") else OLD
        assert load(path) == expected, (at, name)
        assert os.listdir(path.parent) == [path.name], (at, name)


def test_a_temporary_file_that_cannot_be_removed_does_not_hide_the_error(path):
    made = good_run(path)
    synced = next(k for k, (name, *_) in enumerate(made) if name == "fsync")

    def fault():
        atomic.os.unlink = lambda _: failing(errno.EROFS)()
        failing(errno.ENOSPC)()

    with watched(synced, fault), pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        save(NEW, path)
    assert load(path) == OLD
    save(NEW, path)
    assert os.listdir(path.parent) == [path.name]


def test_stale_files_that_cannot_be_removed_do_no_harm(path):
    stale = path.parent / f".carousel-{'0' * 16}.tmp"
    stale.touch()
    with watched() as made:
        save(NEW, path)
    touched = [k for k, (_, *args) in enumerate(made) if args and str(stale) in map(str, args)]
    assert len(touched) == 2  # opened and removed
    for at in touched:
        stale.touch()
        save(OLD, path)
        stale.touch()
        with watched(at, failing(errno.EPERM)):
            save(NEW, path)
        assert load(path) == NEW
        assert stale.exists()


def test_a_write_that_makes_no_progress_is_an_error(path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda descriptor, data: 0)
    with pytest.raises(OSError, match="nothing was written"):
        save(NEW, path)
    assert load(path) == OLD
    assert os.listdir(path.parent) == [path.name]


def test_what_a_power_cut_needs(path):
    """All is written and synchronised before the name changes, and the directory after it."""
    with watched() as made:
        save(NEW, path)
    order = [name for name, *_ in made if name in ("write", "fsync", "replace")]
    assert order == ["write"] * order.count("write") + ["fsync", "replace", "fsync"]
    directory = next(args[0] for name, *args in made[::-1] if name == "open")
    assert directory == path.parent


def test_killed_at_every_call(tmp_path, python):
    done = python("faulty.py", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    left = json.loads(done.stdout)
    names = [name for name, *_ in left]
    assert names.count("write") > 3
    for at, (name, which, others, afterwards) in enumerate(left):
        assert which == ("new" if at > names.index("replace") else "old"), (at, name)
        assert others <= 1, (at, name)
        assert afterwards == ["model"], (at, name)
    assert any(others for _, _, others, _ in left)  # or the removal was not tried


LIMITED = textwrap.dedent("""
    import os, resource, sys
    from pathlib import Path
    from faulty import NEW, OLD, load, save
    path = Path(sys.argv[1])
    save(NEW, path)
    whole = path.stat().st_size
    for size in (0, 1, 8, whole // 2, whole - 1):
        save(OLD, path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, whole))
        try:
            save(NEW, path)
        except OSError as error:
            assert error.errno == 27, error
        else:
            raise AssertionError(size)
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole, whole))
        assert load(path) == OLD
        assert os.listdir(path.parent) == [path.name]
    save(NEW, path)
    assert load(path) == NEW
""")


def test_a_full_disk_of_the_kernel(tmp_path, python):
    """The kernel's own limit of a file's size: a short write first, an error then."""
    done = python("-c", LIMITED, tmp_path / "model")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("suffix", ["keras", "onnx", "pt"])
def test_foreign_files_are_replaced_as_safely(tmp_path, suffix):
    pytest.importorskip({"keras": "h5py", "onnx": "onnx", "pt": "torch"}[suffix])
    path = tmp_path / f"m.{suffix}"
    files.save(OLD, path)
    old = path.read_bytes()
    for wanted in ("write", "fsync", "replace"):
        with watched() as made:
            files.save(NEW, path)
        files.save(OLD, path)
        at = next(k for k, (name, *_) in enumerate(made) if name == wanted)
        with watched(at, failing(errno.ENOSPC)), pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            files.save(NEW, path)
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == [path.name]


def test_symbolic_links(tmp_path):
    """The link stays, its target is replaced; the temporary file lies beside the target."""
    (tmp_path / "sub").mkdir()
    link, target = tmp_path / "link", tmp_path / "sub" / "model"
    link.symlink_to("sub/model")
    save(OLD, link)
    with watched() as made:
        save(NEW, link)
    for at in range(len(made)):
        save(OLD, link)
        with watched(at, failing(errno.EIO)), suppress(OSError):
            save(NEW, link)
        assert link.is_symlink()
        assert load(link) in (OLD, NEW)
        assert os.listdir(tmp_path / "sub") == [target.name]
        assert sorted(os.listdir(tmp_path)) == ["link", "sub"]
    chain = tmp_path / "chain"
    chain.symlink_to(link)
    save(NEW, chain)
    assert chain.is_symlink()
    assert link.is_symlink()
    assert load(target) == NEW
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        save(NEW, loop)
    assert loop.is_symlink()
