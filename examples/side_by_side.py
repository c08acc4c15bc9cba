"""Teacher and student side by side on one slide: the same tiles, coloured by what each says of them.

    histill embed SLIDE --out teacher --teacher uni
    histill embed SLIDE --out student
    python examples/side_by_side.py teacher/*/features_*/SLIDE.h5 student/*/features_*/SLIDE.h5 --out both.png

The student answers in the teacher's space, so the teacher's three first principal components colour both: where the
colours differ, so do the answers. The third picture is the cosine of the two answers, after the teacher's mean is taken
off (which every tile shares, and which alone would make them look alike). Nothing here is Histill's.

Shapes: N tiles, D channels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

TILE_PX, GAP_PX = 8, 8
WORST = 0.0
"""The cosine that is drawn black."""


def read(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """(features (N, D), top left corners (N, 2), side of a tile), in level-0 pixels, of TRIDENT's file."""
    with h5py.File(path) as file:
        side_l0 = round(float(file["coords"].attrs["patch_size_level0"]))
        return file["features"][:].astype(np.float64), file["coords"][:], side_l0


def picture(cell_N2: np.ndarray, colour_N3: np.ndarray) -> np.ndarray:
    """The tiles as squares in their places, white where there is none."""
    width, height = cell_N2.max(0) + 1
    map_HWC = np.full((height, width, 3), 255, np.uint8)
    map_HWC[cell_N2[:, 1], cell_N2[:, 0]] = np.clip(255 * colour_N3, 0, 255)
    return map_HWC.repeat(TILE_PX, axis=0).repeat(TILE_PX, axis=1)


def main(words: list[str] | None = None) -> None:
    """Draw the three, and print the cosine; the last line is JSON."""
    parser = argparse.ArgumentParser(description="two feature files of one slide, side by side")
    parser.add_argument("teacher", type=Path)
    parser.add_argument("student", type=Path)
    parser.add_argument("--out", type=Path, default=Path("side_by_side.png"))
    args = parser.parse_args(words)
    (teacher_ND, corner_N2, side_l0), (student_ND, others_N2, _) = read(args.teacher), read(args.student)
    if not np.array_equal(corner_N2, others_N2):
        raise SystemExit("the two files are not of the same tiles: embed both with the same --coords")
    mean_D = teacher_ND.mean(0)
    teacher_ND, student_ND = teacher_ND - mean_D, student_ND - mean_D
    components_3D = np.linalg.svd(teacher_ND, full_matrices=False)[2][:3]
    low_3, high_3 = np.percentile(teacher_ND @ components_3D.T, [2, 98], axis=0)
    colours = [(each_ND @ components_3D.T - low_3) / (high_3 - low_3) for each_ND in (teacher_ND, student_ND)]
    lengths_N = np.linalg.norm(teacher_ND, axis=1) * np.linalg.norm(student_ND, axis=1)
    cosine_N = (teacher_ND * student_ND).sum(1) / np.maximum(lengths_N, 1e-12)
    cell_N2 = (corner_N2 - corner_N2.min(0)) // side_l0
    grey_N3 = ((cosine_N - WORST) / (1 - WORST))[:, None].repeat(3, axis=1)
    maps = [picture(cell_N2, colour_N3) for colour_N3 in (*colours, grey_N3)]
    gap_HWC = np.full((len(maps[0]), GAP_PX, 3), 255, np.uint8)
    Image.fromarray(np.concatenate([maps[0], gap_HWC, maps[1], gap_HWC, maps[2]], axis=1)).save(args.out)
    print(f"teacher, student, and their cosine (white 1, black {WORST:g}): {args.out}")
    print(json.dumps({"tiles": len(cosine_N), "cosine": float(cosine_N.mean()), "worst": float(cosine_N.min())}))


if __name__ == "__main__":
    main()
