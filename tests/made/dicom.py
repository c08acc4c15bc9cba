"""A whole-slide DICOM series as scanners write it: one file a level, tiles in full rows, JPEG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

TILE_PX, SIDES_PX, MPP = 128, (512, 256), 0.5


def write_series(folder: Path, name: str, suffix: str, seed: int) -> list[Path]:
    """Write NAME-1, NAME-2, … of one series into the folder; the files, finest level first."""
    folder.mkdir(parents=True, exist_ok=True)
    series, frame, study = generate_uid(), generate_uid(), generate_uid()
    noise_HWC = np.random.default_rng(seed).normal(0, 25, (SIDES_PX[0], SIDES_PX[0], 3))
    picture = Image.fromarray((np.array((200, 130, 190)) + noise_HWC).clip(0, 255).astype(np.uint8))
    paths = []
    for number, side_px in enumerate(SIDES_PX, 1):
        level = _level(picture.resize((side_px, side_px)), MPP * SIDES_PX[0] / side_px, number)
        level.SeriesInstanceUID, level.FrameOfReferenceUID, level.StudyInstanceUID = series, frame, study
        paths.append(folder / f"{name}-{number}{suffix}")
        level.save_as(paths[-1], enforce_file_format=True)
    return paths


def _level(picture: Image.Image, mpp: float, number: int) -> Dataset:
    side_px = picture.width
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.SOPClassUID = found.file_meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    found.SOPInstanceUID = found.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    found.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    found.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    if number > 1:
        found.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    found.Modality, found.InstanceNumber = "SM", number
    found.SamplesPerPixel, found.PhotometricInterpretation, found.PlanarConfiguration = 3, "YBR_FULL_422", 0
    found.Rows = found.Columns = TILE_PX
    found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 8, 8, 7, 0
    found.DimensionOrganizationType, found.LossyImageCompression = "TILED_FULL", "01"
    found.TotalPixelMatrixColumns = found.TotalPixelMatrixRows = side_px
    found.ImagedVolumeWidth = found.ImagedVolumeHeight = side_px * mpp / 1000
    found.ImagedVolumeDepth, found.TotalPixelMatrixFocalPlanes, found.NumberOfOpticalPaths = 0.001, 1, 1
    found.ImageOrientationSlide = [0.0, -1.0, 0.0, -1.0, 0.0, 0.0]
    found.TotalPixelMatrixOriginSequence = Sequence(
        [_of(XOffsetInSlideCoordinateSystem="0", YOffsetInSlideCoordinateSystem="0")]
    )
    found.OpticalPathSequence = Sequence([_of(OpticalPathIdentifier="1", ObjectiveLensPower="20")])
    spacing = _of(SliceThickness="0.001", PixelSpacing=[mpp / 1000, mpp / 1000])
    found.SharedFunctionalGroupsSequence = Sequence([_of(PixelMeasuresSequence=Sequence([spacing]))])
    corners = [(x, y) for y in range(0, side_px, TILE_PX) for x in range(0, side_px, TILE_PX)]
    found.NumberOfFrames = len(corners)
    found.PixelData = encapsulate([_jpeg(picture.crop((x, y, x + TILE_PX, y + TILE_PX))) for x, y in corners])
    found["PixelData"].VR = "OB"
    return found


def _of(**elements: object) -> Dataset:
    found = Dataset()
    for name, value in elements.items():
        setattr(found, name, value)
    return found


def _jpeg(tile: Image.Image) -> bytes:
    out = io.BytesIO()
    tile.save(out, "JPEG", quality=90, subsampling=1)
    return out.getvalue()
