"""The source tree the demo's code bot learns from: a package of the Python standard library, as it lies on this machine."""

import gzip
import io
import sysconfig
import tarfile
from pathlib import Path


def pack_package(name: str, archive: Path, *, max_file_bytes: int) -> Path:
    """Write the Python files of a package of the standard library as a `.tar.gz`, and return its path. Blocks.

    Files of more than `max_file_bytes` stay out: those of `encodings` are tables, which teach no style. The same files make the same
    bytes. Raises FileNotFoundError where there are none, or the standard library is not a folder of files.
    """
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(file for file in (library / name).rglob("*.py") if file.stat().st_size <= max_file_bytes)
    if not files:
        message = f"{library / name} has no Python files; the code bot of the demo learns from them."
        raise FileNotFoundError(message)
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (
        archive.open("wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tree,
    ):
        for source in files:
            content = source.read_bytes()
            member = tarfile.TarInfo(str(source.relative_to(library)))
            member.size = len(content)
            tree.addfile(member, io.BytesIO(content))
    return archive
