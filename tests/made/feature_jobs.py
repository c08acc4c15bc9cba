"""Files of features as TRIDENT, CLAM, STAMP, slide2vec and slideflow write them, and plain ones; none by our code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

MPP, SLIDE_PX = 0.5, 640
"""Of the slides that the features are of."""
Features = NDArray[np.floating]
Corners = NDArray[np.int64]
"""(N, 2), level-0 pixels."""


def tiling_attributes(side: int, patch: int, slide: int) -> dict[str, object]:
    """TRIDENT's, of a slide of `slide` px a side, at 20x."""
    return {
        "patch_size": patch,
        "patch_size_level0": float(side),
        "level0_magnification": 20,
        "target_magnification": 20.0 * patch / side,
        "overlap": 0,
        "level0_width": slide,
        "level0_height": slide,
    }


def trident(job: Path, name: str, values: Features, corners: Corners, side: int, encoder: str = "uni_v1") -> Path:
    """At 20x, its patches as large as its tiles."""
    path = job / f"20x_{side}px_0px_overlap" / f"features_{encoder}" / f"{name}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        features = file.create_dataset(
            "features", data=values, chunks=(1, values.shape[1]), maxshape=(None, values.shape[1])
        )
        features.attrs.update({"name": name, "savetodir": str(job), "encoder": encoder})
        coords = file.create_dataset("coords", data=corners, chunks=(1, 2), maxshape=(None, 2))
        coords.attrs.update(tiling_attributes(side, side, SLIDE_PX))
    return path


def clam(job: Path, name: str, values: Features, corners: Corners, side: int) -> Path:
    """h5_files, pt_files, and the coordinates in patches; the tensor is returned."""
    for folder in ("h5_files", "pt_files", "patches"):
        (job / folder).mkdir(parents=True, exist_ok=True)
    with h5py.File(job / "h5_files" / f"{name}.h5", "w") as file:
        file.create_dataset("features", data=values, chunks=(min(32, len(values)), values.shape[1]))
        file.create_dataset("coords", data=corners.astype(np.int32))
    with h5py.File(job / "patches" / f"{name}.h5", "w") as file:
        coords = file.create_dataset("coords", data=corners)
        coords.attrs.update({"patch_size": side, "patch_level": 0, "downsample": np.array([1.0, 1.0])})
    torch.save(torch.from_numpy(values), job / "pt_files" / f"{name}.pt")
    return job / "pt_files" / f"{name}.pt"


def stamp(job: Path, name: str, values: Features, corners: Corners, side: int) -> Path:
    """In micrometres and float16."""
    path = job / "uni-12345678" / f"{name}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["coords"], file["feats"] = (corners * MPP).astype(np.float32), values.astype(np.float16)
        told = {"stamp_version": "2.1.0", "extractor": "uni", "unit": "um", "feat_type": "tile"}
        file.attrs.update({**told, "tile_size_um": side * MPP, "tile_size_px": side})
    return path


def slide2vec(job: Path, name: str, values: Features, corners: Corners, side: int) -> Path:
    """A tensor, its meta.json and the coordinates."""
    for folder in ("tiles", "tile_embeddings"):
        (job / folder).mkdir(parents=True, exist_ok=True)
    where = job / "tiles" / f"{name}.coordinates.npz"
    x_N, y_N = corners.T
    np.savez(where, tile_index=np.arange(len(corners), dtype=np.int32), x=x_N, y=y_N)
    path = job / "tile_embeddings" / f"{name}.pt"
    torch.save(torch.from_numpy(values), path)
    told = {"encoder_name": "uni", "coordinates_npz_path": str(where), "tile_size_lv0": side}
    path.with_name(f"{name}.meta.json").write_text(json.dumps({**told, "requested_tile_size_px": side}))
    return path


def slideflow(job: Path, name: str, values: Features, corners: Corners, side: int) -> Path:
    """A bag, its index of CENTRES, and the folder's config."""
    job.mkdir(parents=True, exist_ok=True)
    torch.save(torch.from_numpy(values), job / f"{name}.pt")
    np.savez(job / f"{name}.index.npz", corners + side // 2)
    extractor = {"class": "slideflow.model.extractors.uni.UNIFeatures", "kwargs": {}}
    config = {"extractor": extractor, "num_features": values.shape[1], "tile_px": side, "tile_um": side * MPP}
    (job / "bags_config.json").write_text(json.dumps(config))
    return job / f"{name}.pt"


def plain_h5(job: Path, name: str, values: Features, corners: Corners, side: int) -> Path:
    """features, x and y."""
    job.mkdir(parents=True, exist_ok=True)
    with h5py.File(job / f"{name}.h5", "w") as file:
        file["features"], file["x"], file["y"] = values, corners[:, 0], corners[:, 1]
        file.attrs.update({"encoder": "uni", "side_l0": float(side)})
    return job / f"{name}.h5"


def plain_npz(job: Path, name: str, values: Features, corners: Corners, side: int) -> Path:
    """features and coords, the side in micrometres."""
    job.mkdir(parents=True, exist_ok=True)
    np.savez(job / f"{name}.npz", features=values, coords=corners, side_um=side * MPP, encoder="uni")
    return job / f"{name}.npz"


def parquet(job: Path, name: str, values: Features, corners: Corners, side: int) -> Path:
    """One table of this slide and of another."""
    job.mkdir(parents=True, exist_ok=True)
    n = len(values)
    slides = [name] * n + ["another"] * 3
    x_N, y_N = (np.concatenate([corners[:, axis], [0, 0, 0]]) for axis in (0, 1))
    lists = [*values.tolist(), *values[:3].tolist()]
    columns = {"slide": slides, "x": x_N, "y": y_N, "features": pa.array(lists, pa.list_(pa.float32()))}
    table = pa.table(columns).replace_schema_metadata({"encoder": "uni", "side_l0": str(side)})
    pq.write_table(table, job / "all.parquet")
    return job / "all.parquet"


Writer = Callable[[Path, str, Features, Corners, int], Path]
JOBS: dict[str, Writer] = {
    "trident": trident,
    "clam": clam,
    "stamp": stamp,
    "slide2vec": slide2vec,
    "slideflow": slideflow,
    "h5": plain_h5,
    "npz": plain_npz,
    "parquet": parquet,
}
"""A job folder of each tool; each gives the file of features."""
