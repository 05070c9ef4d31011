"""The folder an adapter was saved in, packed to be uploaded: its two files and nothing else, the same bytes every time."""

import tarfile
from pathlib import Path

from adaptory.core.adapter_check import ADAPTER_FILES, CONFIG_FILE, WEIGHTS_FILE
from adaptory.core.errors import InvalidRequest

_PICKLED_FILE = "adapter_model.bin"


def pack_adapter(folder: Path, archive: Path) -> None:
    """Write the tar of a folder's adapter; other files of the folder stay where they are.

    Raises InvalidRequest where one of the two files is missing, OSError where one cannot be read or the tar cannot be written.
    """
    _require_files(folder)
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in ADAPTER_FILES:
            # Without times and owners: the same adapter is the same upload, which goes on where it was interrupted.
            info = tarfile.TarInfo(name)
            with (folder / name).open("rb") as file:
                info.size = file.seek(0, 2)
                file.seek(0)
                tar.addfile(info, file)


def _require_files(folder: Path) -> None:
    missing = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    if WEIGHTS_FILE in missing and (folder / _PICKLED_FILE).is_file():
        sentence = (
            f"{folder} holds {_PICKLED_FILE}, which would run code as it is read; save the adapter with safe_serialization=True,"
            f" which writes {WEIGHTS_FILE}"
        )
        raise InvalidRequest.of_field("adapter", sentence)
    if missing:
        sentence = (
            f"{folder} lacks {' and '.join(missing)}; name the folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}"
        )
        raise InvalidRequest.of_field("adapter", sentence)
