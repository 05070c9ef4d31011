"""The tar that an adapter is uploaded as: exactly two files, found without unpacking, taken out in bounded memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from adaptory.core.adapter_check import ADAPTER_FILES, CONFIG_FILE, WEIGHTS_FILE
from adaptory.core.safetensors_header import quote
from trainer_svc.bots.archive import read_members
from trainer_svc.bots.code_file import CodeLimits
from trainer_svc.bots.lengths import RowLengths
from trainer_svc.bots.problem import LineProblem
from trainer_svc.bots.report import DatasetReport, ProblemLog

_GZIP_MAGIC = b"\x1f\x8b"
_COPIED_BYTES = 1 << 20
# The two files and their folders. No content is asked for: a member's content is None.
_LIMITS = CodeLimits(max_members=16, max_file_bytes=-1, max_unpacked_bytes=1 << 40)
_MAX_CONFIG_BYTES = 64 << 10
# What torch writes runs code as it is read.
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file's bytes lie in the archive."""

    begin: int
    size_bytes: int


def judge_archive(file: BinaryIO) -> DatasetReport:
    """Report on an upload of format ADAPTER_TAR: its files are the entries, and anything but the two is an error."""
    problems = ProblemLog()
    num_files = 0
    try:
        num_files = len(find_files(file))
    except LineProblem as problem:
        problems.add_error(0, problem.reason, problem.description)
    return problems.make_report(num_entries=num_files, num_rows=0, lengths=RowLengths())


def find_files(file: BinaryIO) -> Mapping[str, Place]:
    """Return where the two files of an adapter lie in a tar that can be sought in.

    Raises LineProblem: ARCHIVE_INVALID, ARCHIVE_TOO_LARGE, PICKLED_WEIGHTS, FILE_UNKNOWN, FILE_REPEATED, FILE_MISSING,
    CONFIG_TOO_LARGE.
    """
    file.seek(0)
    if file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC:
        raise LineProblem(
            "ARCHIVE_INVALID", "the archive is packed; send a plain tar, since weights hardly get smaller"
        )
    places: dict[str, Place] = {}
    for member in read_members(file, _LIMITS):
        if member.is_folder:
            continue
        name = PurePosixPath(member.path).name
        if not member.is_file or name not in ADAPTER_FILES:
            raise _unknown(name)
        if name in places:
            raise LineProblem("FILE_REPEATED", f"{name} is there twice; send one adapter at a time")
        places[name] = Place(member.begin, member.size_bytes)
    if missing := [name for name in ADAPTER_FILES if name not in places]:
        raise LineProblem("FILE_MISSING", f"the archive lacks {' and '.join(missing)}; send both files of the adapter")
    if (size_bytes := places[CONFIG_FILE].size_bytes) > _MAX_CONFIG_BYTES:
        raise LineProblem(
            "CONFIG_TOO_LARGE", f"{CONFIG_FILE} has {size_bytes} bytes; at most {_MAX_CONFIG_BYTES} are read"
        )
    return places


def unpack(file: BinaryIO, folder: Path) -> None:
    """Write the two files of an archive that was judged before into a folder. Raises LineProblem as `find_files`."""
    for name, place in find_files(file).items():
        file.seek(place.begin)
        with (folder / name).open("xb") as unpacked:
            left = place.size_bytes
            while left and (chunk := file.read(min(left, _COPIED_BYTES))):
                unpacked.write(chunk)
                left -= len(chunk)


def _unknown(name: str) -> LineProblem:
    if name.endswith(_PICKLES):
        return LineProblem(
            "PICKLED_WEIGHTS",
            f"the archive holds {quote(name)}, which would run code as it is read; save the adapter as {WEIGHTS_FILE}"
            " (safe_serialization=True in PEFT), and send no optimizer or training state",
        )
    return LineProblem(
        "FILE_UNKNOWN", f"the archive holds {quote(name)}; send {' and '.join(ADAPTER_FILES)}, and nothing else"
    )
