"""A Zarr group of arrays that are cut at the same rows and written chunk by chunk, so that a killed writer goes on.

Chunks are written in place, each to where it lies in its shard: a slide's answers are one file an array, and not one a
chunk and folders around it. What is whole is known by a journal: a line a chunk, written when the chunk's bytes have
been synced, so that it says the same after a power cut and on another machine. A group of one chunk needs none, nor one
that is made in less time than its syncs take, and from its beginning if at all (`resumable=False`). The
CRC-32 of each chunk of a shard becomes an attribute (`CHUNK_SUMS`), by which a flipped byte is found in a large file.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

from pipeline.base.arrays.form import CHUNK_SUMS, METADATA_FILE, ArrayForm, metadata_text
from pipeline.base.arrays.writers import flat, write_file, write_metadata
from pipeline.base.partials import ITEM_FILE, describe
from pipeline.base.syncing import begin_writing, sync_tree
from pipeline.base.types import Array, Json

JOURNAL = "journal"
_BEGUN_NBYTES = 1 << 20
"""Of a chunk that the disk is given at once, where only the whole group is synced."""


class GroupWriter:
    """`arrays` have as many rows and chunks each; `whole` ones are written at once. Metadata is consolidated."""

    def __init__(
        self,
        folder: Path,
        arrays: Mapping[str, ArrayForm],
        whole: Mapping[str, tuple[ArrayForm, Array]],
        attributes: Mapping[str, Json],
        *,
        resumable: bool = True,
    ) -> None:
        """Goes on in a folder of just this form; what another one left there is deleted."""
        self.folder, self._arrays = folder, arrays
        (self.n_chunks,) = {form.n_chunks for form in arrays.values()}
        self._journaled = resumable and self.n_chunks > 1
        forms = dict(arrays) | {name: form for name, (form, _) in whole.items()}
        metadata = _group({name: form.metadata() for name, form in sorted(forms.items())}, attributes)
        self._done: dict[int, list[int]] = {}
        self._was_whole = False
        if _text(folder / METADATA_FILE) == metadata_text(metadata, None):
            self._was_whole = _is_whole(folder)
            self._done = _journal(folder, len(arrays))
            return
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, form in forms.items():
            write_metadata(folder / name, form.metadata(), None)
        for name, (form, values) in whole.items():
            for chunk in range(form.n_chunks):
                rows = form.rows(chunk)
                data = flat(form, chunk, values[rows.start : rows.stop], folder / name)
                write_file(folder / name / form.file(chunk), data)
        write_metadata(folder, metadata, None)
        if self._journaled:
            # Whoever goes on after a power cut knows by the metadata that all of this is there.
            sync_tree(folder)

    def missing(self) -> list[int]:
        """The chunks that are not whole."""
        return [chunk for chunk in range(self.n_chunks) if chunk not in self._done and not self._was_whole]

    def write(self, chunk: int, values: Mapping[str, Array]) -> None:
        """A chunk's rows of every array."""
        sums = []
        for name, form in self._arrays.items():
            data, nbytes = flat(form, chunk, values[name], self.folder / name)
            sums.append(zlib.crc32(data))
            number, place = divmod(chunk, form.chunks_a_file)
            handle = os.open(self.folder / name / form.file(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                _write_at(handle, data, place * nbytes)
                if self._journaled:
                    os.fsync(handle)
                elif len(data) >= _BEGUN_NBYTES:
                    begin_writing(handle)
            finally:
                os.close(handle)
        self._done[chunk] = sums
        if self._journaled:
            _append(self.folder / JOURNAL, f"{' '.join(map(str, (chunk, *sums)))}\n")

    def close(self) -> None:
        """Put each shard's index behind it. The group is whole then, and synced with its item."""
        if self.missing():
            raise ValueError(f"{self.folder}: chunks {self.missing()} are not written")
        if self._was_whole:
            return
        for i, (name, form) in enumerate(self._arrays.items()):
            if form.chunks_a_file > 1:
                sums: list[Json] = [self._done[chunk][i] for chunk in range(self.n_chunks)]
                summed = dataclasses.replace(form, attributes={**form.attributes, CHUNK_SUMS: sums})
                write_metadata(self.folder / name, summed.metadata(), None)
            for number in range(form.n_files):
                nbytes, index = form.data_nbytes(number), form.index(number)
                file = self.folder / name / form.file(number)
                os.truncate(file, nbytes)
                if index:
                    with open(file, "r+b") as out:
                        out.seek(nbytes)
                        out.write(index)
        (self.folder / JOURNAL).unlink(missing_ok=True)


def _group(arrays: Mapping[str, dict[str, Json]], attributes: Mapping[str, Json]) -> dict[str, Json]:
    """zarr.json of the group, with all of its arrays' in it, so that a reader opens one file."""
    inline: dict[str, Json] = {"kind": "inline", "must_understand": False, "metadata": dict(arrays)}
    return {
        "attributes": dict(attributes),
        "zarr_format": 3,
        "consolidated_metadata": inline,
        "node_type": "group",
    }


def _is_whole(folder: Path) -> bool:
    """Whether a writer was killed when all was written: its files are those that item.json says."""
    return (text := _text(folder / ITEM_FILE)) is not None and text == describe(folder)


def _journal(folder: Path, arrays: int) -> dict[int, list[int]]:
    """The chunks that it names, and each array's sum; a line that a power cut left unfinished is none."""
    text = _text(folder / JOURNAL) or b""
    lines = [line.split() for line in text.split(b"\n")[:-1]]
    whole = [line for line in lines if len(line) == 1 + arrays and all(word.isdigit() for word in line)]
    return {int(chunk): [int(word) for word in sums] for chunk, *sums in whole}


def _text(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _append(file: Path, line: str) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        os.write(handle, line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_at(handle: int, data: bytes | memoryview, offset: int) -> None:
    left = memoryview(data)
    while len(left):
        written = os.pwrite(handle, left, offset)
        left, offset = left[written:], offset + written
