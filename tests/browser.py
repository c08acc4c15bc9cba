"""A page in a real headless Chromium, from a disk and without a network."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium here: the page is not looked at in a browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--allow-file-access-from-files", "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=4000",
    "--enable-logging=stderr", "--v=0",
]  # fmt: skip
SCHEMES = {"dark": 0, "light": 1}
# A frame has exactly the width asked for; a headless window is never narrower than 500 px.
FRAME = """<iframe src="PAGE" style="width:WIDTHpx;height:900px;border:0"></iframe>"""
SCRIPT = """<pre id="found"></pre><script>
const light = (colour) => {
  const c = colour.match(/[\\d.]+/g).map(Number).slice(0, 3).map((v) => v / 255);
  const [r, g, b] = c.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const facts = (frame) => {
  const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
  const style = (node) => view.getComputedStyle(node);
  const behind = (node) => {
    for (; node; node = node.parentElement) if (style(node).backgroundColor !== "rgba(0, 0, 0, 0)") break;
    return node ? style(node).backgroundColor : "rgb(255, 255, 255)";
  };
  const contrast = (node) => {
    const colour = node.closest("svg") ? style(node).fill : style(node).color;
    const [a, b] = [light(colour), light(behind(node))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const written = [...page.querySelectorAll("body *")].filter((node) =>
    [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()) && node.getClientRects().length);
  const faint = written.filter((node) => contrast(node) < 4.5);
  const stuck = [...page.querySelectorAll("body *")].filter((node) =>
    /auto|scroll/.test(style(node).overflowX) && node.tabIndex < 0);
  return {
    scroll: root.scrollWidth, client: root.clientWidth, paper: light(style(page.body).backgroundColor),
    written: written.length, faint: faint.map((node) => node.outerHTML.slice(0, 120)),
    stuck: stuck.map((node) => node.outerHTML.slice(0, 120)),
    fetched: view.performance.getEntriesByType("resource").map((e) => e.name.slice(0, 60)),
    broken: [...page.images].filter((image) => image.src && image.complete && !image.naturalWidth).length,
  };
};
window.onload = () => {
  document.getElementById("found").textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(facts));
};</script>"""


def look(folder: Path, shown: list[tuple[str, int]], scheme: str) -> tuple[list[dict[str, Any]], str]:
    """What the script found of each page of a folder at its width, by one browser, and what that logged."""
    frames = [FRAME.replace("PAGE", name).replace("WIDTH", str(width)) for name, width in shown]
    (folder / "frame.html").write_text("\n".join([*frames, SCRIPT]), encoding="utf-8")
    flags = [*FLAGS, f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", f"--user-data-dir={folder / scheme}"]
    command = [str(BROWSER), *flags, "--dump-dom", (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:]
    facts: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    return facts, done.stderr


def check(folder: Path, shown: list[tuple[str, int]], scheme: str) -> None:
    """What holds for every page: no scrolling sideways, all is legible and reachable, nothing is fetched or logged."""
    facts, log = look(folder, shown, scheme)
    for (name, width), found in zip(shown, facts, strict=True):
        where = f"{name} at {width} px, {scheme}: {found}"
        assert found["scroll"] <= found["client"] <= width, where
        assert (found["paper"] < 0.1) == (scheme == "dark"), where
        assert found["written"] and not found["faint"] and not found["stuck"] and not found["broken"], where
        assert all(name.startswith("data:") for name in found["fetched"]), where
    assert "CONSOLE" not in log, log


def printed_pages(page: Path) -> int:
    """Pages of paper that a page takes."""
    out = page.with_suffix(".pdf")
    flags = [*FLAGS, f"--user-data-dir={page.parent / 'print'}", f"--print-to-pdf={out}"]
    subprocess.run([str(BROWSER), *flags, page.as_uri()], capture_output=True, timeout=600, check=True)
    return len(re.findall(rb"/Type /Page\b", out.read_bytes()))
