from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_files import write_tar

from geoglot.data.tars import Member, TarDamage, tar_members

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def ours(path: Path) -> list[Member]:
    with path.open("rb") as file:
        return list(tar_members(file, path.name))


def theirs(path: Path) -> list[Member]:
    with tarfile.open(path, errors="surrogateescape") as tar:
        return [Member(m.name, m.offset_data, m.size) for m in tar if m.isreg()]


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=40), max_size=5
    ),
    sizes=st.lists(st.integers(0, 1500), min_size=5, max_size=5),
    kind=st.sampled_from((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)),
    deep=st.booleans(),
)
def test_against_the_standard_library(
    names: list[str], sizes: list[int], kind: int, deep: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tars") / "a.tar"
    folder = "/".join(["a long folder name"] * 9) + "/" if deep else ""
    members = [(folder + name, bytes(size)) for name, size in zip(names, sizes, strict=False)]
    write_tar(path, members, kind)
    assert ours(path) == theirs(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_links_folders_and_devices_are_not_files(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=kind) as tar:
        for name, sort, target in (
            ("folder", tarfile.DIRTYPE, ""),
            ("link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.jpg", tarfile.LNKTYPE, "../../x"),
            ("zero.jpg", tarfile.CHRTYPE, ""),
            ("pipe.jpg", tarfile.FIFOTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = sort, target
            tar.addfile(info)
        info = tarfile.TarInfo("x" * 90 + "/" + "y" * 90)
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    assert [m.name for m in ours(path)] == ["x" * 90 + "/" + "y" * 90]
    assert ours(path) == theirs(path)


def test_what_comes_before_damage_is_good(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", [(f"{i}.txt", bytes(600)) for i in range(5)]).read_bytes()
    assert len(ours(tmp_path / "a.tar")) == 5
    for cut, good in ((3 * 1536 + 700, 3), (2 * 1536, 2), (1536 + 100, 1)):
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        found: list[Member] = []
        with (tmp_path / "cut.tar").open("rb") as file, pytest.raises(TarDamage):
            found.extend(tar_members(file, "cut.tar"))
        assert len(found) == good
    broken = bytearray(whole)
    broken[1536 + 10] ^= 0xFF  # within the second header: the checksum no longer fits
    (tmp_path / "bad.tar").write_bytes(broken)
    with pytest.raises(TarDamage, match="damaged, at byte 1536"):
        ours(tmp_path / "bad.tar")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_compressed_tars_are_named_as_such(tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "a.tar", mode) as tar:
        info = tarfile.TarInfo("x")
        info.size = 5000
        tar.addfile(info, io.BytesIO(bytes(range(250)) * 20))
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data + bytes(max(0, 600 - len(data))))
    with pytest.raises(TarDamage, match="is compressed"):
        ours(tmp_path / "a.tar")


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A ustar header with a right checksum and any size field."""
    raw = bytearray(512)
    raw[: len(name)] = name.encode()
    raw[124 : 124 + len(size)] = size
    raw[156:157] = kind
    raw[257:265] = b"ustar\x0000"
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a size far beyond the file", header("x", b"77777777777\0")),
        ("a binary size of exabytes", header("x", b"\x80" + b"\xff" * 11)),
        ("a negative size", header("x", b"\xff" * 12)),
        ("a size that is no number", header("x", b"12x4567\0")),
        ("an extended header of a gigabyte", header("x", b"10000000000\0", b"x")),
        ("an endless record", header("x", b"00000000004\0", b"x") + b"0 a=" + bytes(508)),
        ("a record without a length", header("x", b"00000000004\0", b"x") + b"path" + bytes(508)),
        ("text", b"<html>not found</html>" * 40),
    ],
)
def test_hostile_headers_end_in_damage(tmp_path: Path, name: str, raw: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(raw + bytes(1024))
    with pytest.raises(TarDamage):
        ours(tmp_path / "a.tar")


def test_a_huge_extended_header_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(header("x", b"%011o\0" % (64 << 20), b"x"))
        file.truncate(128 << 20)  # sparse: the bytes are there for whoever reads them
    with pytest.raises(TarDamage, match="extended header of 67,108,864 bytes"):
        ours(tmp_path / "a.tar")
