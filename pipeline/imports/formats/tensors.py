"""`.pt` files of one tensor (N, D), and what lies beside them that says what it is.

    CLAM        pt_files/<slide>.pt; its rows are those of the coordinates' h5, which says where they lie
    slideflow   <slide>.pt, <slide>.index.npz with the CENTRES of tiles, bags_config.json: extractor, tile_px, tile_um
    slide2vec   tile_embeddings/<slide>.pt or .npz (features, tile_index), <slide>.meta.json; the coordinates are in
                tiles/<slide>.coordinates.npz: tile_index, x, y of corners

Source: CLAM 53e2409, extract_features_fp.py:88; slideflow 7f5a40b, features.py:727, tfrecord2idx.py:117; slide2vec
7.1.4, artifacts.py:495; hs2p 6.1.0, tiling/io.py.
"""

from __future__ import annotations

import errno
import json
import pickle
from pathlib import Path

import numpy as np

from pipeline.base.types import Array
from pipeline.imports.formats.feature_file import FeatureFile, Places, at_once, refused, require_matrix, require_places

_ZIP = b"PK\x03\x04"
INDEX, CONFIG, META, COORDINATES = ".index.npz", "bags_config.json", ".meta.json", ".coordinates.npz"


def open_tensor(path: Path, slide: str) -> FeatureFile:
    """Raises `SlideRefused`, and what torch or numpy raise for what they cannot read."""
    index, meta = path.with_name(path.stem + INDEX), path.with_name(path.stem + META)
    features = _tensor(path)
    require_matrix(path, features.shape, features.dtype)
    tool, encoder, places, patch_px = "CLAM", None, None, None
    if index.is_file():
        tool, (encoder, places, patch_px) = "slideflow", _slideflow(path, index, len(features))
    elif meta.is_file():
        tool, (encoder, places, patch_px) = "slide2vec", _slide2vec(path, meta, np.arange(len(features)))
    n, width = features.shape
    return FeatureFile(
        path,
        tool,
        encoder,
        str(features.dtype),
        n,
        width,
        places,
        lambda seen: at_once(path, lambda: _tensor(path), seen),
        patch_px,
    )


def open_slide2vec_npz(path: Path) -> FeatureFile:
    """slide2vec's `.npz` beside its `.meta.json`."""
    with np.load(path) as file:
        features, order_N = file["features"], np.asarray(file["tile_index"])
    require_matrix(path, features.shape, features.dtype)
    encoder, places, patch_px = _slide2vec(path, path.with_name(path.stem + META), order_N)
    n, width = features.shape
    return FeatureFile(
        path,
        "slide2vec",
        encoder,
        str(features.dtype),
        n,
        width,
        places,
        lambda seen: at_once(path, lambda: _of_npz(path), seen),
        patch_px,
    )


def _slideflow(path: Path, index: Path, n: int) -> tuple[str | None, Places, int | None]:
    config_path = path.with_name(CONFIG)
    if not config_path.is_file():
        raise refused(path, f"stands without {CONFIG}, which says how large a tile is")
    config = json.loads(config_path.read_bytes())
    with np.load(index) as file:
        centre_N2 = np.asarray(file["arr_0"])
    require_places(path, centre_N2.shape, centre_N2.dtype, n)
    side, extractor = config.get("tile_um"), config.get("extractor")
    if not isinstance(side, int | float):
        raise refused(path, f"is of tiles of {side} um, by what {CONFIG} says")
    encoder = extractor.get("class") if isinstance(extractor, dict) else extractor
    places = Places(centre_N2.astype(np.float64), float(side), side_unit="um", centred=True)
    patch_px = config.get("tile_px")
    return None if encoder is None else str(encoder), places, None if patch_px is None else int(patch_px)


def _slide2vec(path: Path, meta: Path, order_N: Array) -> tuple[str | None, Places, int | None]:
    told = json.loads(meta.read_bytes())
    for name in ("coordinates_npz_path", "tile_size_lv0"):
        if told.get(name) is None:
            raise refused(path, f"stands beside a {META[1:]} without {name}")
    named = Path(str(told["coordinates_npz_path"]))
    # The folder may have been moved since: then the coordinates lie beside it, as the tool lays them.
    beside = path.parent.parent / "tiles" / (path.stem + COORDINATES)
    coordinates = beside if beside.is_file() else named
    if not coordinates.is_file():
        raise refused(path, f"stands without its coordinates ({beside})")
    with np.load(coordinates) as file:
        corner_N2 = np.stack([file["x"], file["y"]], 1).astype(np.float64)
        row_of = {int(number): row for row, number in enumerate(np.asarray(file["tile_index"]).tolist())}
    if len(order_N) != len(corner_N2):
        raise refused(path, f"has {len(order_N)} rows of features, and {len(corner_N2)} coordinates")
    missing = [number for number in order_N.tolist() if number not in row_of]
    if missing:
        raise refused(path, f"has features of tile {missing[0]}, of which {coordinates.name} has no coordinates")
    corner_N2 = corner_N2[[row_of[number] for number in order_N.tolist()]]
    places = Places(corner_N2, float(told["tile_size_lv0"]))
    encoder, patch_px = told.get("encoder_name"), told.get("requested_tile_size_px")
    return None if encoder is None else str(encoder), places, None if patch_px is None else int(patch_px)


def _tensor(path: Path) -> Array:
    """Mapped where the file's form allows it; nothing but a tensor is ever unpickled."""
    import torch

    with open(path, "rb") as file:
        zipped = file.read(len(_ZIP)) == _ZIP
    try:
        # Of torch before 1.6 it is no zip, and cannot be mapped.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        # torch's own words are of how to load what is not to be trusted.
        raise refused(path, "is damaged, or holds something else than a tensor") from None
    if not isinstance(found, torch.Tensor):
        raise refused(path, f"holds a {type(found).__name__}, not one tensor")
    if found.layout != torch.strided:
        raise refused(path, "holds a sparse tensor")
    found = found.detach()
    array: Array = (found.float() if found.dtype == torch.bfloat16 else found).numpy()
    return array


def _of_npz(path: Path) -> Array:
    with np.load(path) as file:
        return np.asarray(file["features"])
