"""Source trees in archives: what is read, what is left out, and that no archive costs more than the caps."""

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.trainer.bots.told import Told
from trainer_svc.bots.code_file import CodeLimits
from trainer_svc.bots.code_tree import read_code_tree
from trainer_svc.bots.limits import DataLimits

LIMITS = DataLimits()
CODE_LIMITS = CodeLimits(max_file_bytes=4_096, max_members=50)
MIB = 1024**2


def make_tar(*members: tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return an archive of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for path, content in members:
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def make_special(kind: bytes, path: str = "special", **fields: object) -> bytes:
    """Return an archive of one member that is no plain file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(path)
        info.type = kind
        for name, value in fields.items():
            setattr(info, name, value)
        archive.addfile(info)
    return buffer.getvalue()


def read(raw: bytes, limits: CodeLimits = CODE_LIMITS) -> tuple[dict[str, str], Told]:
    """Read an archive."""
    told = Told()
    files = {file.path: file.content for _, file in read_code_tree(io.BytesIO(raw), LIMITS, told, limits)}
    return files, told


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tree_is_read_in_every_form(pack: Callable[[bytes], bytes], form: int) -> None:
    """Old, GNU and PAX archives, packed or not, long names and all."""
    long = "/".join(["folder-of-the-tree"] * 7) + "/main.py"

    files, told = read(pack(make_tar(("./a.py", b"x = 1\n"), (long, b"y = 2\n"), form=form)))

    assert files == {"a.py": "x = 1\n", long: "y = 2\n"}
    assert not told.sentences


class OnlyOnce(io.BytesIO):
    """A file that cannot go back, as blobs of a store are."""

    def seekable(self) -> bool:
        """Say no."""
        return False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Refuse."""
        raise io.UnsupportedOperation


def test_a_file_that_can_be_read_once_will_do() -> None:
    """Ignore files rule a tree from a stream, too."""
    told = Told()
    raw = make_tar(("a.log.py", b"x"), ("b.py", b"y"), (".gitignore", b"*.log.py\n"))

    found = [file.path for _, file in read_code_tree(OnlyOnce(raw), LIMITS, told, CODE_LIMITS)]

    assert "b.py" in found
    assert "a.log.py" not in found


def test_an_ignore_file_rules_what_comes_before_it_too() -> None:
    """An archive's order says nothing; nested rules win over outer ones, but nothing comes back from an ignored folder."""
    files, told = read(
        make_tar(
            ("p/build/out.py", b"x"),
            ("p/build/keep.py", b"x"),
            ("p/src/debug.log.py", b"x"),
            ("p/src/a.py", b"x"),
            ("p/src/local/settings.py", b"x"),
            ("p/src/local/example.py", b"x"),
            ("p/.gitignore", b"build/\n!build/keep.py\n*.log.py\nsettings.py\n[z-a]\n"),
            ("p/src/local/.gitignore", b"!settings.py\nexample.py\n"),
            ("build/elsewhere.py", b"x"),
        )
    )

    assert {path for path in files if path.endswith(".py")} == {
        "p/src/a.py",
        "p/src/local/settings.py",
        "build/elsewhere.py",
    }
    assert told.num_by_reason["FILE_IGNORED"] == 4


def test_a_pattern_made_to_backtrack_costs_nothing() -> None:
    """Patterns are matched in linear time: this one takes a backtracking matcher longer than the universe is old."""
    name = "a" * 200

    files, _ = read(make_tar((name, b"x = 1\n"), (".gitignore", b"*a" * 60 + b"b\n")))

    assert name in files


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (tarfile.SYMTYPE, {"linkname": "/etc/passwd"}),
        (tarfile.LNKTYPE, {"linkname": "../../etc/passwd"}),
        (tarfile.CHRTYPE, {}),
        (tarfile.BLKTYPE, {}),
        (tarfile.FIFOTYPE, {}),
    ],
)
def test_what_is_no_plain_file_is_never_read(kind: bytes, fields: dict[str, object]) -> None:
    """Links and devices are left out and counted, whatever they point to."""
    files, told = read(make_special(kind, **fields))

    assert (files, told.errors, told.warnings) == ({}, [], [(1, "FILE_LINKED")])


@pytest.mark.parametrize("path", ["/etc/cron.d/job", "../outside.py", "a/../../outside.py", "C:/windows/a.py"])
def test_a_path_out_of_the_tree_refuses_the_archive(path: str) -> None:
    """Nothing is ever written, and still an archive that tries is not learned from."""
    _, told = read(make_tar(("a.py", b"x = 1\n"), (path, b"y = 2\n")))

    assert told.errors == [(2, "PATH_UNSAFE")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89PNG\0\0", "FILE_BINARY"),
        ("naïve = 1\n".encode("latin-1"), "FILE_NOT_UTF8"),
        (b"x" * 5_000, "FILE_TOO_LARGE"),
        (b"var a;" * 300, "FILE_LONG_LINES"),
        (b"", "FILE_EMPTY"),
        (b"# DO NOT EDIT\nx = 1\n", "FILE_GENERATED"),
    ],
)
def test_what_is_no_source_is_left_out_and_counted(content: bytes, reason: str) -> None:
    """The rest of the tree is read, and the member is named by its number."""
    files, told = read(make_tar(("a.py", b"x = 1\n"), ("b.py", content), ("c.py", b"y = 2\n")))

    assert list(files) == ["a.py", "c.py"]
    assert (told.errors, told.warnings) == ([], [(2, reason)])


def test_every_cut_of_an_archive_is_noticed() -> None:
    """An archive that lost its end is refused wherever it was cut, with the files that came before; nothing is lost in silence."""
    whole = make_tar(("a.py", b"x = 1\n" * 100), ("b.py", b"y = 2\n" * 200))
    end = len(whole.rstrip(b"\0")) + 1

    for length in range(0, end, 97):
        _, told = read(whole[:length])
        assert [reason for _, reason in told.errors] == ["ARCHIVE_INVALID"], length


def test_a_packed_archive_cut_short_is_noticed() -> None:
    """So it is for a packed one, of which the last bytes are its sum."""
    whole = gzip.compress(make_tar(("a.py", b"x = 1\n" * 100)))

    for length in range(len(whole)):
        _, told = read(whole[:length])
        assert [reason for _, reason in told.errors] == ["ARCHIVE_INVALID"], length


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04 a zip", b"\x1f\x8bnot gzip", b"x" * 2_000, b'{"path": "a"}\n'])
def test_what_is_no_archive_is_refused(raw: bytes) -> None:
    """The report says so, and what is expected."""
    _, told = read(raw)

    assert [reason for _, reason in told.errors] == ["ARCHIVE_INVALID"]


def test_a_second_archive_behind_the_first_is_noticed() -> None:
    """Two archives in one file would lose the second one."""
    _, told = read(make_tar(("a.py", b"x = 1\n")) + make_tar(("b.py", b"y = 2\n")))

    assert [reason for _, reason in told.errors] == ["ARCHIVE_INVALID"]


def test_a_bomb_is_refused_by_its_ratio() -> None:
    """64 MiB of zeros in 64 KiB stop at the ratio, and never lie in memory."""
    bomb = gzip.compress(make_tar(("zeros.bin", bytes(64 * MIB))))
    tracemalloc.start()

    _, told = read(bomb)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert told.errors == [(0, "ARCHIVE_TOO_LARGE")]
    assert peak < 8 * MIB


def test_too_much_is_refused_by_its_size() -> None:
    """What unpacks to more than the cap, or has more members, is refused."""
    raw = make_tar(*((f"f{number}.py", b"x = 1\n") for number in range(20)))

    assert read(raw, CodeLimits(max_unpacked_bytes=10_000))[1].errors == [(0, "ARCHIVE_TOO_LARGE")]
    assert read(raw, CodeLimits(max_members=19))[1].errors == [(0, "ARCHIVE_TOO_LARGE")]


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_giant_header_is_refused(kind: bytes) -> None:
    """Names and attributes are read whole by the library; one of 32 MiB never is."""
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 32 * MIB
    raw = info.tobuf(tarfile.GNU_FORMAT) + b"a" * 32 * MIB + make_tar(("a.py", b"x"))
    tracemalloc.start()

    _, told = read(raw)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert told.errors == [(0, "ARCHIVE_INVALID")]
    assert peak < 4 * MIB


def test_headers_upon_headers_are_refused() -> None:
    """Attributes of attributes without end would be read by recursion without end."""
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 0

    _, told = read(info.tobuf(tarfile.USTAR_FORMAT) * 5_000 + make_tar(("a.py", b"x")))

    assert told.errors == [(0, "ARCHIVE_INVALID")]


def test_attributes_of_all_members_are_forgotten() -> None:
    """Global attributes, which the library keeps for the rest of an archive, do not pile up."""
    info = tarfile.TarInfo("a.py")
    pieces = []
    for number in range(400):
        header = info.create_pax_global_header({f"key.{number}": "v" * 30_000})
        pieces += [header, info.tobuf(tarfile.USTAR_FORMAT)]
    tracemalloc.start()

    _, told = read(b"".join(pieces) + bytes(1_024), CodeLimits())

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not told.errors
    assert peak < 30 * MIB


def test_a_negative_size_is_refused() -> None:
    """A member that would lead the reader back ends the reading."""
    header = bytearray(tarfile.TarInfo("a.py").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)

    _, told = read(bytes(header) + make_tar(("b.py", b"x")))

    assert [reason for _, reason in told.errors] == ["ARCHIVE_INVALID"]


BASES = [
    make_tar(("a.py", b"x = 1\n"), ("d/" * 60 + "b.py", b"y = 2\n"), (".gitignore", b"*.log\n"), form=form)
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
]


@given(
    number=st.integers(0, 2),
    changes=st.lists(st.tuples(st.integers(0, 4_095), st.integers(0, 255)), max_size=6),
    begin=st.integers(0, 3_000),
    mends=st.booleans(),
)
def test_a_damaged_archive_is_read_or_refused(
    number: int,
    changes: list[tuple[int, int]],
    begin: int,
    mends: bool,  # noqa: FBT001 - drawn
) -> None:
    """Whatever bytes are changed, with sums mended or not, the reader ends, and fails with nothing but a report."""
    raw = bytearray(BASES[number])
    for place, value in changes:
        raw[place % len(raw)] = value
    if mends:
        for block in range(0, len(raw) - 511, 512):
            if raw[block + 257 : block + 262] == b"ustar":
                raw[block + 148 : block + 156] = b"        "
                raw[block + 148 : block + 156] = b"%06o\0 " % sum(raw[block : block + 512])

    for piece in (bytes(raw), bytes(raw[begin:])):
        for packed in (piece, gzip.compress(piece)):
            files, told = read(packed)
            # Zeros alone are an archive without members, of which a dataset's judge tells.
            assert files or told.sentences or not piece.strip(b"\0")


@given(st.binary(max_size=3_000))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """No bytes make the reader fail."""
    for packed in (raw, b"\x1f\x8b\x08" + raw, gzip.compress(raw)):
        files, told = read(packed)
        assert files or told.sentences or not raw.strip(b"\0")
