"""The page: whole, self-contained, safe, and honest about what was not measured."""

from __future__ import annotations

import io
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made.figures import figure
from made.manifests import other, ratio, timed
from PIL import Image

from pipeline.base.errors import ManifestError
from pipeline.base.figures import NotMeasured
from pipeline.base.items import FileItem, ImportedFacts
from pipeline.base.store import Store
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.benchmark.results import Speedup
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.measures.robustness.results import Robustness, Steadiness
from pipeline.params.report import ReportParams
from pipeline.report.across.pareto import Pareto
from pipeline.report.page import Manifests, build_report
from pipeline.report.pictures import data_uri, small_jpeg

SECTIONS = (
    "verdict", "slides", "tiles", "tokens", "training", "fidelity", "downstream", "robustness", "tradeoff", "speed",
    "provenance", "refused",
)  # fmt: skip
VOID = {"meta", "link", "img", "br", "hr", "input", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Collects tags and attributes, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def text(manifests: Manifests, store: Store, compared: Pareto, plots: Path, tmp_path: Path) -> str:
    build_report(manifests, ReportParams(), store, compared, tmp_path / "report.html", plots)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_every_section_is_there_and_the_nav_leads_to_it(text: str):
    page = Page(text)
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert set(SECTIONS) <= ids
    links = {a["href"] for t, a in page.tags if t == "a" and a.get("href")}
    assert {link.removeprefix("#") for link in links - {"slides.html"}} <= ids and "slides.html" in links


def test_nothing_is_loaded_from_elsewhere(text: str):
    for tag, attributes in Page(text).tags:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name)
            beside = (tag, name, value) == ("a", "href", "slides.html")
            assert value is None or beside or value.startswith(("data:", "#")), (tag, name, value)
        assert tag != "script" and not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|https?://", text)


def test_what_a_table_says_is_text_and_never_markup(text: str):
    assert "<script>" not in text and "<img src=x" not in text and "<b>mpp</b>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "no &lt;b&gt;mpp&lt;/b&gt;" in text and "give mpp in slides.csv" in text


def test_pictures_and_plots_have_a_text_alternative(text: str):
    for tag, attributes in Page(text).tags:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-label"]


def test_headings_step_down_one_at_a_time(text: str):
    levels = [int(tag[1]) for tag, _ in Page(text).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_verdict_and_the_demo_are_stated(text: str):
    for words in (
        "3.5×",
        "4.1×",
        "88 %",
        "94 % of the teacher’s figure, of which an untrained network has 44 %",
        "0.62",
        "80 to 95 %",
        "This is the demo.",
        "Not measured here:",
        "3.8 to 4.35 times",
    ):
        assert words in text


def test_a_real_teacher_is_not_called_a_demo(manifests, store, compared, tmp_path):
    summary = manifests["evaluate"].summary.model_copy(update={"teacher": "vit_large_patch16_224"})
    manifests["evaluate"] = manifests["evaluate"].model_copy(update={"summary": summary})
    build_report(manifests, ReportParams(), store, compared, tmp_path / "r.html")
    assert "This is the demo" not in (tmp_path / "r.html").read_text()


def test_a_run_without_held_out_slides_says_so(manifests, store, compared, tmp_path):
    nothing = NotMeasured(why="no slide is held out")
    summary = EvaluateSummary(
        protocol="histill",
        teacher="t",
        student="s",
        primary=None,
        splits={},
        nothing_held_out=nothing,
        robustness=nothing,
    )
    manifests["evaluate"] = manifests["evaluate"].model_copy(update={"summary": summary, "items": ()})
    build_report(manifests, ReportParams(), store, compared, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert text.count("no slide is held out") >= 4
    Page(text)


def test_a_student_that_was_trained_on_the_test_is_named_in_red(manifests, store, compared, tmp_path):
    summary = manifests["evaluate"].summary.model_copy(update={"learnt_slides": ("gamma",)})
    manifests["evaluate"] = manifests["evaluate"].model_copy(update={"summary": summary})
    build_report(manifests, ReportParams(), store, compared, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert 'class="alarm" role="alert"' in text and "slide gamma" in text


def test_every_figure_is_in_a_table(text: str):
    for words in (
        "linear CKA",
        "few shots, 16 a class",
        "slide labels, attention, teacher’s head",
        "crc, test",
        "2 tiles are nearly the same",
        "agreement, stain",
        "<td>0.037<small>-0.100 to 0.100</small></td>",
        "+0.150 to +0.270",
        "+0.180, +0.240",
    ):
        assert words in text
    assert 'class="alarm"' not in text


def test_few_shots_and_few_labels_stand_beside_the_majority(text: str):
    assert re.search(r"few shots, 4 a class</th>(\s*<td>[^/]*</small></td>){3}<td>0.171<", text)
    assert re.search(r'<th scope="row">10</th>(\s*<td>[^/]*</small></td>){4}<td>0.171<', text)


def test_an_engine_that_was_not_measured_says_why(text: str):
    assert text.count("it has &lt;b&gt;no&lt;/b&gt; model.onnx") == 2


def test_a_speed_up_stands_in_a_table_with_its_interval_for_each_engine(manifests, store, compared, tmp_path):
    engine = [other("teacher", 40.0, None), other("student", 164.0, None)]
    found = timed(40.0, 164.0, ratio(4.1, 3.8, 4.35), *engine)
    more = Speedup(engine="onnxruntime", precision="fp32", device="cpu", ratio=ratio(4.1))
    found = found.model_copy(update={"speedups": (*found.speedups, more)})
    manifests["benchmark"] = BenchmarkManifest(summary=found)
    build_report(manifests, ReportParams(), store, compared, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert '<td class="right">4.1<small>3.8–4.35</small></td>' in text
    assert re.search(r"onnxruntime, fp32, cpu</th>.*<td class=\"right\">164</td><td class=\"right\">4.1</td>", text)


def test_other_experiments_are_beside_this_run_with_the_front_marked(text: str):
    assert "tiny-wren, test_vit" in text and "&lt;i&gt;slow&lt;/i&gt;, efficientvit_b1" in text
    assert text.count("<td>yes</td>") == 2 and text.count('class="front"') == 1


def test_maps_of_teacher_and_student_are_shown_or_their_absence_is(text: str, manifests, store, compared, tmp_path):
    assert text.count('class="map"') == 2 and "0.510" in text
    build_report(manifests, ReportParams(), store, compared, tmp_path / "r.html", tmp_path / "no plots")
    assert "No maps of patch tokens" in (tmp_path / "r.html").read_text()


def test_a_larger_and_slower_student_is_called_that(manifests, store, compared, tmp_path):
    found = timed(164.0, 40.0, ratio(1 / 4.1, 1 / 4.35, 1 / 3.8))
    swapped = {"teacher": found.models["student"], "student": found.models["teacher"]}
    manifests["benchmark"] = BenchmarkManifest(summary=found.model_copy(update={"models": swapped}))
    build_report(manifests, ReportParams(), store, compared, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "<dt>larger</dt>" in text and "<dt>slower</dt>" in text and "3.8 to 4.35 times" in text


def test_at_most_so_many_slides_are_shown(manifests, store, compared, tmp_path):
    build_report(manifests, ReportParams(max_slides=2), store, compared, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert text.count("<article") == 2 and "2 of 5 slides are shown" in text


def test_a_recipe_of_many_slides_is_shown_by_its_beginning(manifests, store, compared, tmp_path):
    student = manifests["student"]
    recipe = {**student.recipe, "items": [[f"key-{i:05}", 4] for i in range(10_000)]}
    many = {**manifests, "student": student.model_copy(update={"recipe": recipe})}
    few = build_report(manifests, ReportParams(), store, compared, tmp_path / "few" / "report.html")
    made = build_report(many, ReportParams(), store, compared, tmp_path / "many" / "report.html")
    text = (tmp_path / "many" / "report.html").read_text()
    assert "key-00099" in text and "and 9,900 more" in text and "key-00100" not in text
    assert made.summary["nbytes"] - few.summary["nbytes"] < 20_000


def test_the_same_manifests_make_the_same_bytes(manifests, store, compared, plots, tmp_path):
    for name in ("a.html", "b.html"):
        build_report(manifests, ReportParams(), store, compared, tmp_path / name, plots)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_missing_manifest_names_the_command(manifests, store, compared, tmp_path):
    del manifests["benchmark"]
    with pytest.raises(ManifestError, match="dvc repro benchmark"):
        build_report(manifests, ReportParams(), store, compared, tmp_path / "r.html")


@pytest.mark.parametrize("stage", ["benchmark", "evaluate", "tiles"])
def test_a_manifest_of_another_version_is_an_error_that_names_the_command(manifests, store, compared, tmp_path, stage):
    manifests[stage] = manifests[stage].model_copy(update={"version": 0})
    with pytest.raises(ManifestError, match=rf"artifacts/{stage}.json: .*form 0, not \d\n.*dvc repro {stage}"):
        build_report(manifests, ReportParams(), store, compared, tmp_path / "r.html")


@pytest.mark.parametrize("stage", ["benchmark", "evaluate"])
def test_figures_of_two_students_never_stand_on_one_page(manifests, store, compared, tmp_path, stage):
    """As `dvc repro -s report` or `histill report` would, after another student was trained."""
    weights = FileItem(id="model.safetensors", key="model.safetensors", digest="a" * 32, nbytes=1)
    manifests["student"] = manifests["student"].model_copy(update={"items": (weights,)})
    for name in ("benchmark", "evaluate"):
        of = "b" if name == stage else "a"
        manifests[name] = manifests[name].model_copy(update={"recipe": {"student": of * 32}})
    with pytest.raises(ManifestError, match=rf"artifacts/{stage}.json: .*another student.*\n.*dvc repro {stage}"):
        build_report(manifests, ReportParams(), store, compared, tmp_path / "r.html")


def test_experiments_that_do_not_compare_are_named(manifests, store, compared, plots, tmp_path):
    why = ("quick-fox: timed on <H200>, not on A Processor",)
    build_report(manifests, ReportParams(), store, replace(compared, left_out=why), tmp_path / "r.html", plots)
    assert "<li>quick-fox: timed on &lt;H200&gt;, not on A Processor</li>" in (tmp_path / "r.html").read_text()


def test_the_first_screen_has_the_floors_of_its_accuracies_and_where_the_student_is_slower(
    manifests, store, compared, tmp_path
):
    found = manifests["benchmark"].summary
    teacher, student = found.cells[:2]
    first, *larger = student.rows
    student = student.model_copy(update={"rows": (first.model_copy(update={"latency_ms_p50": 40.0}), *larger)})
    machine = found.machine.model_copy(update={"load": 5.3})
    found = found.model_copy(update={"cells": (teacher, student), "machine": machine})
    manifests["benchmark"] = BenchmarkManifest(summary=found)
    build_report(manifests, ReportParams(), store, compared, tmp_path / "r.html")
    first_screen = (tmp_path / "r.html").read_text().partition("<nav")[0]
    assert "teacher 0.90, student 0.85, untrained student 0.40, majority class 0.17" in first_screen
    assert "25 and 40 ms for a batch of 1 (the student is slower there)" in first_screen
    assert "speed: 5.3 processes wanted the machine’s 2 cores" in first_screen


def test_no_figure_stands_on_the_page_twice(text: str):
    assert text.count("<small>0.600–0.640</small>") == 2, "the cosine of split test, and that of the data set crc"
    assert text.count("0.300<small>0.200–0.350</small>") == 1


def test_every_column_has_a_name(text: str):
    assert not re.search(r"<th[^>]*>\s*</th>", text)


def test_speed_is_said_to_be_of_the_processor_that_it_was_measured_on(manifests, store, compared, tmp_path):
    """A machine with a GPU whose params ask for the CPU."""
    found = manifests["benchmark"].summary
    machine = found.machine.model_copy(update={"gpu": "NVIDIA H200"})
    manifests["benchmark"] = BenchmarkManifest(summary=found.model_copy(update={"machine": machine}))
    build_report(manifests, ReportParams(), store, compared, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "fp32 on A Processor" in text and "fp32 on NVIDIA" not in text and "fp32, A Processor, 2 threads" in text
    assert "speed on a GPU" in text


def test_a_picture_is_made_to_fit(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "big.jpg", quality=95)
    assert len(data_uri((tmp_path / "big.jpg").read_bytes(), 60_000)) < 60_000 * 4 / 3 + 100
    assert data_uri(b"", 60_000) == ""


def test_a_picture_loses_quality_before_it_loses_size(tmp_path: Path):
    texture_HWC = np.kron(np.random.default_rng(0).integers(90, 165, (256, 256, 3)), np.ones((4, 4, 1)))
    Image.fromarray(texture_HWC.astype(np.uint8)).save(tmp_path / "t.jpg", quality=88)
    data = small_jpeg((tmp_path / "t.jpg").read_bytes(), 75_000)
    with Image.open(io.BytesIO(data)) as picture:
        assert len(data) <= 75_000 and picture.size == (512, 512)


def test_larger_batches_that_are_missing_and_a_busy_machine_are_named(manifests, store, compared, tmp_path):
    cell = other("teacher", 164.0, "batch 32: out of memory")
    found = timed(40.0, 164.0, ratio(4.1, 3.8, 4.35), cell)
    teacher = found.cells[0].model_copy(update={"why": "batch 64: it took more than 300 s (benchmark.limit_s)"})
    machine = found.machine.model_copy(update={"load": 5.3})
    found = found.model_copy(update={"cells": (teacher, *found.cells[1:]), "machine": machine})
    manifests["benchmark"] = BenchmarkManifest(summary=found)
    build_report(manifests, ReportParams(), store, compared, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "Larger batches of the teacher are missing: batch 64: it took more than 300 s" in text
    assert "onnxruntime, teacher: larger batches are missing: batch 32: out of memory" in text
    assert "That machine was busy" in text and "5.3 processes" in text
    assert text.count('<th scope="row">onnxruntime, fp32, cpu, teacher</th>') == 2


def test_an_interval_has_the_digits_of_its_value(manifests, store, compared, tmp_path):
    found = figure(0.998, 0.9961, 0.9989, n=9)
    robust = Robustness(changes={"jpeg": Steadiness(teacher=found, student=found, difference=figure(0.0, 0.0, 0.0))})
    summary = manifests["evaluate"].summary.model_copy(update={"robustness": robust})
    manifests["evaluate"] = manifests["evaluate"].model_copy(update={"summary": summary})
    build_report(manifests, ReportParams(), store, compared, tmp_path / "r.html")
    assert "0.998<small>0.996–0.999</small>" in (tmp_path / "r.html").read_text()


def test_the_time_of_every_student_has_its_interval(text: str):
    assert '<td class="right">0.1<small>0.08–0.13</small></td>' in text
    assert '<td class="right">0.244<small>0.23–0.263</small></td>' in text


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"checked_tiles": 64, "mean_cosine": 0.97338, "worst_cosine": 0.689}, "verified on 64 tiles"),
        ({"why": "the hub wants an agreement"}, "not verified (the hub wants an agreement)"),
    ],
)
def test_imported_features_are_told_of_and_whether_they_were_verified(
    manifests: Manifests, store: Store, compared: Pareto, plots: Path, tmp_path: Path, found, said: str
):
    imported = ImportedFacts(tool="TRIDENT", encoder="uni_v1", dtype="float32", **found)
    summary = manifests["tokens"].summary.model_copy(update={"imported": imported})
    manifests["tokens"] = manifests["tokens"].model_copy(update={"summary": summary})
    build_report(manifests, ReportParams(), store, compared, tmp_path / "report.html", plots)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "from TRIDENT, encoder uni_v1, float32" in text and said in text


def test_slides_an_hour_include_reading_or_say_why_not(
    manifests: Manifests, store: Store, compared: Pareto, text: str, tmp_path: Path
):
    assert "Slides an hour, reading included" in text and "slides of 10,000 tiles an hour" in text
    assert "reading slides and decoding tiles" not in text
    found = manifests["benchmark"].summary.model_copy(update={"whole": NotMeasured(why="no slide is here")})
    manifests["benchmark"] = manifests["benchmark"].model_copy(update={"summary": found})
    build_report(manifests, ReportParams(), store, compared, tmp_path / "without.html")
    said = (tmp_path / "without.html").read_text(encoding="utf-8")
    assert "reading slides and decoding tiles (no slide is here)" in said and "slides of 10,000" not in said
