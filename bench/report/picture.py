"""The first screen of a report as a picture, for the README: python -m bench.report.picture [--page …] [--out …].

A headless Chromium shows the page from the disk, without a network, in its light colours, and what fits a window of
`--width` by `--height` CSS pixels is kept as a PNG of 256 colours at most, which such a page does not miss. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

from bench.printing import finish
from bench.scratch import scratch

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=4000",
         "--blink-settings=preferredColorScheme=1", "--force-device-scale-factor=1")  # fmt: skip
COLOURS = 256


def picture(page: Path, out: Path, width: int, height: int) -> dict[str, object]:
    """Write what the page's window shows to `out`; its size. Ends the program where there is no browser or no page."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"no browser here: install one of {', '.join(BROWSERS)}")
    if not page.is_file():
        sys.exit(f"{page}: no such page; dvc repro report makes the project's")
    with scratch() as folder:
        shot = folder / "shot.png"
        words = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"]
        subprocess.run(
            [*words, f"--screenshot={shot}", page.resolve().as_uri()], check=True, capture_output=True, timeout=300
        )
        with Image.open(shot) as seen:
            seen.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)
    return {"out": str(out), "width": width, "height": height, "nbytes": out.stat().st_size}


def main() -> None:
    """Read the command line, look, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=Path("reports/report.html"))
    parser.add_argument("--out", type=Path, default=Path("docs/report.png"))
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=860)
    asked = parser.parse_args()
    finish(picture(asked.page, asked.out, asked.width, asked.height))


if __name__ == "__main__":
    main()
