"""Two finished runs are the same where every byte that no clock decides is, and what differs is named by its path."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bench.page_text import page_lines
from bench.same_bytes import main
from pipeline.base.store import Ref, Store, recipe_key

ROOT = Path(__file__).parents[2]
app = typer.Typer()
app.command()(main)
RECIPE = {"tile_px": 128, "teacher": {"name": "demo"}}
PAGE = """<html><head><style>p {{}}</style></head><body>
<dl id="verdict"><div><dt>{direction}</dt><dd>{times}</dd><dd>{rate} tiles a second with the student</dd></div>
<div><dt>likeness</dt><dd>0.91</dd></div></dl>
<section id="fidelity"><p>Cosine {cosine}</p><svg><path d="{curve}"/></svg><img src="data:,{picture}"></section>
<section id="speed"><p>Best: {rate} tiles/s, 3.1 M parameters</p><svg><path d="{rate}"/></svg></section>
</body></html>"""
SHOWN = {"direction": "faster", "times": "3.7×", "rate": "212", "cosine": "0.912", "curve": "M0", "picture": "abc"}


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


def made_run(root: Path, seconds: float = 1.5, **shown: str) -> Path:
    """A finished run: two items by one recipe, a manifest, metrics, the student's file and a page."""
    store, items = Store(root / ".store"), []
    for name in ("demo-1", "demo-2"):
        ref = Ref("tokens", recipe_key(RECIPE), name)
        with store.write(ref, RECIPE) as folder:
            (folder / "cls").write_bytes(bytes(range(64)))
        items.append({"id": name, "digest": store.digest(ref), "n": 3, "info": {"split": "train"}})
    key = {"recipe": RECIPE, "recipe_key": recipe_key(RECIPE), "version": 1}
    write_json(root / "artifacts/tokens.json", {**key, "stage": "tokens", "items": items})
    write_json(root / "artifacts/benchmark.json", {"recipe": {"seconds": 1}, "summary": {"speedup": seconds}})
    write_json(root / "artifacts/report.json", {"summary": {"nbytes": int(seconds * 100), "slides": 2}})
    write_json(root / "metrics/tokens.json", {"tiles": 6, "seconds": seconds, "tiles_per_s": 4.0, "write_s": seconds})
    (root / "models/student").mkdir(parents=True)
    (root / "models/student/model.onnx").write_bytes(b"weights")
    (root / "reports").mkdir()
    (root / "reports/report.html").write_text(PAGE.format(**SHOWN | shown))
    return root


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    return made_run(tmp_path / "old"), made_run(tmp_path / "new")


def compared(old: Path, new: Path, *words: str) -> tuple[int, list[str], dict[str, Any]]:
    """Exit status, the differences as printed, and the object of the last line."""
    done = CliRunner().invoke(app, [str(old), str(new), *words])
    lines = done.stdout.splitlines()
    assert lines, done.output
    return done.exit_code, [line for line in lines if " -> " in line], json.loads(lines[-1])


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def test_runs_that_only_clocks_tell_apart_are_the_same(tmp_path: Path) -> None:
    old = made_run(tmp_path / "old")
    new = made_run(tmp_path / "new", seconds=2.25, direction="slower", times="1.2×", rate="98.5")
    status, differences, told = compared(old, new)
    assert (status, differences, told["same"]) == (0, [], True)
    assert all(part["compared"] for part in told["parts"].values())
    assert told["parts"]["metrics"]["left_out"] == 3 and told["parts"]["manifests"]["left_out"] == 2


def test_a_flipped_byte_of_an_item_is_named(runs: tuple[Path, Path]) -> None:
    old, new = runs
    (file,) = new.glob(".store/tokens/*/demo-2/cls")
    data = bytearray(file.read_bytes())
    data[7] ^= 1
    file.write_bytes(data)
    status, differences, told = compared(old, new)
    assert status == 1 and not told["same"]
    assert [text.partition(": ")[0] for text in differences] == [f"store items  {file.relative_to(new).as_posix()}"]


def test_a_changed_number_of_a_manifest_is_named_with_both_values(runs: tuple[Path, Path]) -> None:
    old, new = runs
    edit(new / "artifacts/tokens.json", '"n": 3', '"n": 4')
    status, differences, _ = compared(old, new)
    assert (status, differences) == (1, ["manifests  artifacts/tokens.json/items/demo-1/n: 3 -> 4"])


def test_a_number_that_became_another_type_is_a_difference(runs: tuple[Path, Path]) -> None:
    old, new = runs
    edit(new / "artifacts/tokens.json", '"n": 3', '"n": 3.0')
    assert compared(old, new)[1] == ["manifests  artifacts/tokens.json/items/demo-1/n: 3 -> 3.0"]


def test_a_missing_item_is_told_once(runs: tuple[Path, Path]) -> None:
    old, new = runs
    (item,) = new.glob(".store/tokens/*/demo-1")
    for file in item.iterdir():
        file.unlink()
    item.rmdir()
    status, differences, told = compared(old, new)
    assert (status, differences) == (1, [f"store items  {item.relative_to(new).as_posix()}: there -> (absent)"])
    assert told["parts"]["store items"]["differ"] == 1


def test_another_recipe_key_is_told_though_the_bytes_are_the_same(runs: tuple[Path, Path]) -> None:
    old, new = runs
    (folder,) = new.glob(".store/tokens/*")
    folder.rename(folder.with_name("f" * 32))
    differences = compared(old, new)[1]
    assert f"recipe keys  .store/tokens/{folder.name}: there -> (absent)" in differences
    assert f"recipe keys  .store/tokens/{'f' * 32}: (absent) -> there" in differences


@pytest.mark.parametrize("file", ["models/student/model.onnx", "metrics/tokens.json"])
def test_a_file_that_is_gone_is_a_difference(runs: tuple[Path, Path], file: str) -> None:
    old, new = runs
    (new / file).unlink()
    status, differences, _ = compared(old, new)
    assert status == 1 and all(file in text and "(absent)" in text for text in differences) and differences


def test_a_field_that_moved_is_compared_where_it_stands(runs: tuple[Path, Path]) -> None:
    old, new = runs
    manifest = json.loads((new / "artifacts/tokens.json").read_bytes())
    manifest["version"] += 1
    for item in manifest["items"]:
        item |= item.pop("info")
    write_json(new / "artifacts/tokens.json", manifest)
    moved = ("--rename", r"/info/=/", "--allow", "artifacts/tokens.json/version: * -> *")
    assert compared(old, new)[0] == 1
    status, differences, told = compared(old, new, *moved)
    assert (status, differences, told["parts"]["manifests"]["allowed"]) == (0, [], 1)
    edit(new / "artifacts/tokens.json", '"split": "train"', '"split": "test"')
    assert compared(old, new, *moved)[:2] == (
        1,
        ["manifests  artifacts/tokens.json/items/demo-1/split: train -> test"],
    )


def test_a_file_compared_by_its_values_may_have_them_elsewhere_but_not_others(runs: tuple[Path, Path]) -> None:
    old, new = runs
    for root, summary in ((old, {"cosine": 0.91, "low": 0.8}), (new, {"figures": [{"value": 0.91, "low": 0.8}]})):
        write_json(root / "artifacts/evaluate.json", {"stage": "evaluate", "summary": summary})
    by_value = ("--values", "artifacts/evaluate.json")
    assert compared(old, new)[0] == 1
    assert compared(old, new, *by_value)[0] == 0
    edit(new / "artifacts/evaluate.json", "0.91", "0.92")
    assert compared(old, new, *by_value)[1] == [
        "manifests  artifacts/evaluate.json has 0.91: 0.91 -> (absent)",
        "manifests  artifacts/evaluate.json has 0.92: (absent) -> 0.92",
    ]


@pytest.mark.parametrize(("what", "value"), [("cosine", "0.913"), ("curve", "M1"), ("picture", "abd")])
def test_a_page_that_shows_something_else_differs_in_that_section(tmp_path: Path, what: str, value: str) -> None:
    status, differences, _ = compared(made_run(tmp_path / "old"), made_run(tmp_path / "new", **{what: value}))
    assert status == 1 and len(differences) == 1 and differences[0].startswith("text  reports/report.html#fidelity: ")


def test_of_a_speed_the_words_are_kept_and_the_numbers_are_not() -> None:
    lines = page_lines(PAGE.format(**SHOWN))
    assert ("speed", "Best: # tiles/s, # parameters") in lines
    assert ("", "faster #× # tiles a second with the student") in lines and ("", "likeness 0.91") in lines


def test_a_busy_machine_is_no_difference() -> None:
    told = "<section id='speed'><p>They took turns.{}</p></section><div>{}</div>"
    busy = " <strong>That machine was busy</strong>: 9 processes wanted it, so that ratios say more than milliseconds."
    caution = "To know before trusting a figure:<ul><li>speed: 9 processes wanted the machine’s 2 cores</li></ul>"
    assert page_lines(told.format(busy, caution)) == page_lines(told.format("", "")) == [("speed", "They took turns.")]


def test_a_folder_without_a_finished_run_says_what_to_do(runs: tuple[Path, Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(runs[0]), str(tmp_path / "none")])
    assert done.exit_code == 2 and "dvc repro there first" in " ".join(done.output.replace("│", " ").split())


def test_the_command_prints_a_table_and_ends_with_one_json_line(runs: tuple[Path, Path]) -> None:
    command = [sys.executable, "-m", "bench.same_bytes", *map(str, runs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "store items" in done.stdout, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["same"] is True
