"""The store's promises, kept by real files, real processes and real limits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made.partials import partials
from small_disk import small_disk

from pipeline.base.errors import BeingWritten, CorruptItem, MissingItem, StoreError, StoreFull, StoreReadOnly
from pipeline.base.living.runs import announced
from pipeline.base.living.unfinished import orphans, sweep_committed
from pipeline.base.partials import store_errors
from pipeline.base.store import Ref, Store, recipe_key

RECIPE = {"tile_px": 224}
REF = Ref("tiles", recipe_key(RECIPE), "slide-1")


def put(store: Store, content: bytes = b"pixels", ref: Ref = REF) -> None:
    with store.write(ref, RECIPE) as folder:
        (folder / "a").mkdir(exist_ok=True)
        (folder / "a" / "data").write_bytes(content)


def sweep(store: Store) -> int:
    return sum(orphan.delete() for orphan in orphans(store.root))


def child(code: str, store: Store) -> subprocess.Popen[str]:
    """A process with the store, the recipe and the ref at hand, its standard input and output on pipes."""
    prelude = (
        "import sys, time\nfrom pipeline.base.store import Ref, Store, recipe_key\n"
        f"store = Store({str(store.root)!r})\nrecipe = {RECIPE!r}\nref = Ref('tiles', recipe_key(recipe), 'slide-1')\n"
    )
    command = [sys.executable, "-c", prelude + code]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_an_item_exists_only_when_it_is_complete(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.write(REF, RECIPE) as folder:
        (folder / "data").write_bytes(b"half")
        assert not store.has(REF)
    assert store.has(REF)
    assert partials(store) == []
    assert store.recipe(REF) == RECIPE
    assert sorted(path.name for path in store.path(REF).iterdir()) == ["data", "item.json"]


def test_a_failing_writer_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.write(REF, RECIPE) as folder:
        (folder / "data").write_bytes(b"half")
        raise RuntimeError
    assert not store.has(REF)
    assert partials(store) == []


def test_what_is_unfinished_or_half_deleted_is_no_item(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store)
    recipe = store.path(REF).parent
    for folder in (recipe / ".partials" / "slide-2" / "0123", recipe / ".slide-2.0123.deleted"):
        folder.mkdir(parents=True)
        (folder / "item.json").write_text("{}")
    assert list(store.refs()) == [REF]


def test_the_digest_depends_on_the_bytes_alone(tmp_path: Path) -> None:
    one, two, other = (Store(tmp_path / name) for name in ("one", "two", "other"))
    put(one)
    put(two)
    put(other, b"other pixels")
    assert one.digest(REF) == two.digest(REF) != other.digest(REF)


def test_two_processes_race_for_one_item(tmp_path: Path) -> None:
    store = Store(tmp_path)
    code = (
        "with store.write(ref, recipe) as folder:\n"
        "    print('ready', flush=True); sys.stdin.readline()\n"
        "    (folder / 'data').write_bytes(b'x' * 1000)\n"
    )
    racers = [child(code, store) for _ in range(2)]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    assert len(partials(store)) == 2
    for racer in racers:
        racer.communicate("go\n", timeout=600)
        assert racer.returncode == 0
    store.verify(REF)
    assert partials(store) == []


@pytest.mark.parametrize("orphaned", [False, True])
def test_of_two_who_begin_at_once_one_writes_an_item_and_the_other_gives_way(orphaned: bool, tmp_path: Path) -> None:
    """Whoever is in the block stays there until both know what became of them: no writer is saved by its haste."""
    store, refs = Store(tmp_path), [Ref("tiles", recipe_key(RECIPE), f"item{i}") for i in range(20)]
    if orphaned:
        for ref in refs:
            with contextlib.suppress(ZeroDivisionError), store.write(ref, RECIPE, resume=True) as folder:
                (folder / "begun").write_bytes(b"x")
                raise ZeroDivisionError
    start, decided = threading.Barrier(2), threading.Barrier(2)

    def run(_: int) -> list[Ref | None]:
        wrote: list[Ref | None] = []
        for ref in refs:
            start.wait()
            try:
                with store.write(ref, RECIPE, resume=True, alone=True) as folder:
                    decided.wait()
                    (folder / "data").write_bytes(b"x")
                wrote.append(ref)
            except BeingWritten:
                decided.wait()
                wrote.append(None)
        return wrote

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(run, range(2)))
    writers = [sum(ref is not None for ref in of_both) for of_both in zip(*both, strict=True)]
    # Where one was slow both may have given way: never do both write.
    assert max(writers) == 1
    for ref, n in zip(refs, writers, strict=True):
        if not n:
            with store.write(ref, RECIPE, resume=True, alone=True) as folder:
                (folder / "data").write_bytes(b"x")
        assert store.has(ref)
    # Who had taken an orphan over and was slow gave way to one who began anew: then the orphan is left.
    if orphaned:
        sweep_committed(store.path(refs[0]).parent)
    assert partials(store) == []


def test_kill_9_in_the_middle_loses_only_the_partial(tmp_path: Path) -> None:
    store = Store(tmp_path)
    _kill_while_writing(store)
    assert not store.has(REF)
    assert len(partials(store)) == 1
    assert sweep(store) == 1
    assert partials(store) == []
    put(store)
    store.verify(REF)


def test_a_resumed_item_goes_on_where_the_killed_one_was(tmp_path: Path) -> None:
    store = Store(tmp_path)
    _kill_while_writing(store)
    with store.write(REF, RECIPE, resume=True) as folder:
        assert (folder / "chunk-0").read_bytes() == b"finished"
        (folder / "chunk-1").write_bytes(b"finished too")
    store.verify(REF)
    assert partials(store) == []


def test_what_is_left_beside_a_committed_item_goes_with_the_next_stage_that_ends_well(tmp_path: Path) -> None:
    store, other = Store(tmp_path), Ref("tiles", REF.recipe, "slide-2")
    put(store, ref=Ref("tiles", REF.recipe, "slide-3"))
    code = (
        "import os\nother = store.write(Ref('tiles', ref.recipe, 'slide-2'), recipe, resume=True)\n"
        "other.__enter__()\nlate = store.write(Ref('tiles', ref.recipe, 'slide-3'), recipe)\nlate.__enter__()\n"
        "with store.write(ref, recipe) as folder:\n"
        "    (folder / 'item.json').write_text('{}')\n"
        "    os.rename(folder, store.path(ref)); os.kill(os.getpid(), 9)\n"
    )
    killed = child(code, store)
    killed.communicate(timeout=600)
    assert killed.returncode == -signal.SIGKILL
    beside = store.path(REF).parent / ".partials"
    assert sorted(path.name for path in beside.iterdir()) == ["slide-1", "slide-2", "slide-3"]
    with announced(store.root, "tiles", tmp_path):
        assert store.has(REF) and not store.has(other)
    # What can still be gone on in stays.
    assert [path.name for path in beside.iterdir()] == ["slide-2"] and len(partials(store)) == 1
    assert sweep(store) == 1 and not list(beside.iterdir())


def test_a_recipe_half_written_goes_with_the_next_stage_that_ends_well(tmp_path: Path) -> None:
    store = Store(tmp_path)
    code = (
        "import os\nkill = lambda given: str(given[1]).endswith('recipe.json') and os.kill(os.getpid(), 9)\n"
        "sys.addaudithook(lambda event, given: event == 'os.rename' and kill(given))\n"
        "with store.write(ref, recipe): pass\n"
    )
    killed = child(code, store)
    killed.communicate(timeout=600)
    assert killed.returncode == -signal.SIGKILL
    with announced(store.root, "tiles", tmp_path):
        put(store)
    beside = sorted(path.name for path in store.path(REF).parent.iterdir())
    assert beside == [".partials", "recipe.json", "slide-1"]
    assert not list((store.path(REF).parent / ".partials").iterdir())


def test_nobody_waits_for_an_owners_file_whose_maker_was_killed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.path(REF).parent / ".partials" / REF.item
    folder.mkdir(parents=True)
    (folder / ".0123.owner").touch()
    code = "with store.write(ref, recipe, resume=True): pass\n"
    writer = child(code, store)
    writer.communicate(timeout=600)
    assert writer.returncode == 0
    assert store.has(REF) and not partials(store)


def test_a_living_writers_partial_is_not_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.write(REF, RECIPE) as folder:
        assert sweep(store) == 0
        (folder / "data").write_bytes(b"still here")
    store.verify(REF)


def test_a_refusal_that_is_not_the_stores_is_left_as_it_is(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(IsADirectoryError), store.write(REF, RECIPE):
        (tmp_path).write_bytes(b"")
    with pytest.raises(PermissionError) as caught, store.write(REF, RECIPE):
        raise PermissionError(13, "Permission denied", str(tmp_path / "slide.svs"))
    assert not isinstance(caught.value, StoreReadOnly)


def test_a_store_that_cannot_be_made_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreReadOnly, match=r"(?s)Not a directory.*HISTILL_STORE"):
        put(Store(tmp_path / "file" / "store"))
    with pytest.raises(StoreReadOnly, match="Permission denied"), store_errors(tmp_path / "new" / "store" / str(REF)):
        raise PermissionError(13, "Permission denied", str(tmp_path / "new"))


def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    """A file-size limit stands in for a full disk: the kernel refuses the same write with EFBIG."""
    store = Store(tmp_path)
    code = (
        "import resource, signal\nfrom pipeline.base.errors import StoreFull\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    with store.write(ref, recipe) as folder:\n"
        "        (folder / 'data').write_bytes(bytes(1_000_000))\n"
        "except StoreFull as error:\n"
        "    print(error, flush=True)\n"
    )
    out, _ = child(code, store).communicate(timeout=600)
    assert "no room left" in out and "HISTILL_STORE" in out
    assert not store.has(REF) and partials(store) == []


def test_a_really_full_file_system(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "256k") as mount:
        store = Store(mount / "store")
        with pytest.raises(StoreFull, match="no room left"):
            put(store, os.urandom(1_000_000))
        assert not store.has(REF) and partials(store) == []
        put(store, b"fits")
        store.verify(REF)


def test_a_read_only_store_serves_and_refuses_to_write(tmp_path: Path) -> None:
    mount = tmp_path / "store"
    store = Store(mount)
    put(store)
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "--bind", str(mount), str(mount)], capture_output=True, check=False).returncode
    ):
        pytest.skip("a read-only bind mount needs root")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(mount)], check=True)
        store.verify(REF)
        assert store.open(REF, remedy="").is_dir()
        with pytest.raises(StoreReadOnly, match="HISTILL_STORE"):
            put(store, ref=Ref("tiles", REF.recipe, "slide-2"))
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_opening_a_deleted_item_says_how_to_make_it_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store)
    store.delete(REF)
    assert not store.has(REF) and partials(store) == []
    with pytest.raises(MissingItem, match=r"(?s)tiles.*slide-1.*dvc repro -s -f tiles"):
        store.open(REF, remedy="dvc repro -s -f tiles")


def test_verify_finds_a_flipped_byte_a_short_file_and_a_missing_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store)
    file = store.path(REF) / "a" / "data"
    for damage, message in ((b"pixelz", "another checksum"), (b"pix", "3 bytes, not 6"), (None, "missing")):
        file.unlink() if damage is None else file.write_bytes(damage)
        with pytest.raises(CorruptItem, match=message):
            store.verify(REF)


@pytest.mark.parametrize("item", ["", "..", "../x", "a/b", ".hidden", "/etc", "a b"])
def test_a_key_that_would_leave_the_folder_is_refused(item: str) -> None:
    with pytest.raises(StoreError, match="leave the store's folder"):
        Ref("tiles", "r", item)


def test_the_recipe_key_ignores_the_order_of_keys() -> None:
    assert recipe_key({"a": 1, "b": {"c": 2, "d": 3}}) == recipe_key({"b": {"d": 3, "c": 2}, "a": 1})
    assert recipe_key({"a": 1}) != recipe_key({"a": 2})


def _kill_while_writing(store: Store) -> None:
    code = (
        "with store.write(ref, recipe, resume=True) as folder:\n"
        "    (folder / 'chunk-0').write_bytes(b'finished')\n"
        "    print('ready', flush=True); time.sleep(3600)\n"
    )
    process = child(code, store)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=600)


def test_bytes_of_unfinished_items_are_those_of_the_items_asked_for(tmp_path: Path) -> None:
    store = Store(tmp_path)
    dotted, other = (Ref("tiles", REF.recipe, item) for item in ("slide-1.b", "slide-2"))
    for n, ref in enumerate((REF, dotted, other), start=1):
        with pytest.raises(RuntimeError), store.write(ref, RECIPE, resume=True) as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "chunk").write_bytes(bytes(10**n))
            raise RuntimeError
    assert store.partial_nbytes([REF, other]) == 1010
    assert store.partial_nbytes([dotted]) == 100 and store.partial_nbytes([]) == 0


def test_an_item_is_being_written_for_as_long_as_its_writer_lives(tmp_path: Path) -> None:
    store, other = Store(tmp_path), Ref("tiles", REF.recipe, "slide-2")
    assert not store.being_written(REF)
    code = "with store.write(ref, recipe) as folder:\n    print('ready', flush=True); sys.stdin.readline()\n"
    for end in ("commit", "kill"):
        writer = child(code, store)
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        assert store.being_written(REF) and not store.being_written(other)
        if end == "kill":
            writer.kill()
        writer.communicate("go\n" if end == "commit" else None, timeout=600)
        assert not store.being_written(REF)
    assert store.has(REF) and len(partials(store)) == 1


def test_a_writer_looks_at_its_own_items_partials_alone(tmp_path: Path) -> None:
    """A listing of the recipe's folder for each of its items would make a run's time grow with their square."""
    store = Store(tmp_path)
    put(store)
    recipe = store.path(REF).parent
    code = (
        "listed = []\nfrom pathlib import Path\n"
        "sys.addaudithook(lambda event, given: listed.append(str(given[0])) if event == 'os.scandir' else None)\n"
        "with store.write(Ref('tiles', ref.recipe, 'slide-2'), recipe): pass\nprint(*listed, sep='\\n')\n"
    )
    listed = child(code, store).communicate(timeout=600)[0].split()
    assert listed and str(recipe) not in listed and str(recipe / ".partials") not in listed


def test_partials_of_the_earlier_layout_are_gone_on_in(tmp_path: Path) -> None:
    store = Store(tmp_path)
    earlier = [store.path(REF).with_name(f".{item}.0123.partial") for item in (REF.item, f"{REF.item}.b")]
    for folder in earlier:
        folder.mkdir(parents=True)
        (folder / ".lock").touch()
        (folder / "chunk-0").write_bytes(folder.name.encode())
    assert store.partial_nbytes([REF]) == len(earlier[0].name)
    with store.write(REF, RECIPE, resume=True) as folder:
        assert (folder / "chunk-0").read_bytes() == earlier[0].name.encode()
    assert sorted(path.name for path in store.path(REF).iterdir()) == ["chunk-0", "item.json"]
    assert sweep(store) == 1 and not partials(store)


def test_of_several_who_take_an_orphan_over_one_goes_on_in_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    _kill_while_writing(store)
    code = (
        "sys.stdin.readline()\n"
        "with store.write(ref, recipe, resume=True) as folder:\n"
        "    print((folder / 'chunk-0').exists(), flush=True); sys.stdin.readline()\n"
    )
    racers = [child(code, store) for _ in range(3)]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.stdout.readline() for racer in racers if racer.stdout is not None]
    for racer in racers:
        racer.communicate("go\n", timeout=600)
        assert racer.returncode == 0
    assert sorted(said) == ["False\n", "False\n", "True\n"]
    assert not partials(store) and not list(tmp_path.glob("*/*/.partials/*"))


def test_an_owner_killed_as_it_came_holds_an_item_for_a_moment_alone(tmp_path: Path) -> None:
    store, ref = Store(tmp_path), Ref("tiles", recipe_key(RECIPE), "item")
    partials = store.own_path(ref).parent / ".partials" / ref.item
    partials.mkdir(parents=True)
    coming = partials / f".{'0' * 32}.owner"
    coming.touch()
    with pytest.raises(BeingWritten), store.write(ref, RECIPE, resume=True, alone=True):
        raise AssertionError("another may be just coming")
    a_moment_ago = time.time() - 3
    os.utime(coming, (a_moment_ago, a_moment_ago))
    with store.write(ref, RECIPE, resume=True, alone=True) as folder:
        (folder / "data").write_bytes(b"x")
    assert store.has(ref) and not partials.exists()
