"""Every hostile kind of input to sharding: how it is made, and what must come of it.

A maker gets an empty folder that already holds ``good.png`` and puts one hostile thing beside it.
"""

import base64
import io
import os
import socket
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageCms, PngImagePlugin

Maker = Callable[[Path], None]
KINDS: dict[str, tuple[str, Maker]] = {}
"""Kind -> (what comes of it, how it is made)."""


def kind(name: str, outcome: str) -> Callable[[Maker], Maker]:
    def register(maker: Maker) -> Maker:
        assert name not in KINDS
        KINDS[name] = (outcome, maker)
        return maker

    return register


def file(name: str, outcome: str, path: str, data: Callable[[], bytes]) -> None:
    KINDS[name] = (outcome, lambda folder: _put(folder, path, data()))


def _put(folder: Path, path: str, data: bytes) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)


def noise(seed: int = 1, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), np.uint8)
    return Image.fromarray(values).convert("RGBA" if "A" in mode else "RGB").convert(mode)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)  # type: ignore[arg-type]
    return out.getvalue()


def jpeg(seed: int = 1, mode: str = "RGB", **options: object) -> bytes:
    return saved(noise(seed, mode=mode), "JPEG", **options)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *more: bytes, pixels: bytes | None = None) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = [bytes(width + 1)] * height if pixels is None else [pixels]
    data = b"".join(map(packer.compress, rows)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb() -> bytes:
    """All of the pixels are really there: 400 MB once unpacked."""
    data = png(20_000, 20_000)
    assert len(data) < 400_000
    return data


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes, place: int, value: int = 0xFF) -> bytes:
    return data[:place] + bytes([data[place] ^ value]) + data[place + 1 :]


def frames() -> list[Image.Image]:
    return [Image.new("RGB", (20, 12), (shade, 9, 9)) for shade in (10, 120, 240)]


def animated(form: str) -> bytes:
    first, *rest = frames()
    return saved(first, form, save_all=True, append_images=rest, duration=50)


def with_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(exif=exif)


def texts(name: bytes, number: int, size: int) -> bytes:
    body = b"k\0\0" + zlib.compress(bytes(size), 9)
    return png(8, 8, *[chunk(name, body)] * number)


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last, nearly empty scan is repeated: each costs the decoder a pass over all pixels."""
    data = saved(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = data[data.rfind(b"\xff\xc4", 0, data.rfind(b"\xff\xda")) : -2]
    return data[:-2] + last * scans + data[-2:]


# Images that are cut, empty, or something else
file("zero bytes", "rejected: empty", "a.jpg", lambda: b"")
file("JPEG cut in half", "rejected: truncated", "a.jpg", lambda: half(jpeg()))
file("progressive JPEG cut in half", "rejected: truncated", "a.jpg", lambda: half(jpeg(progressive=True)))
file("JPEG of three bytes", "rejected: undecodable", "a.jpg", lambda: jpeg()[:3])
file("PNG cut in half", "rejected: truncated", "a.png", lambda: half(saved(noise(), "PNG")))
file("GIF cut in half", "rejected: truncated", "a.gif", lambda: half(saved(noise(mode="P"), "GIF")))
file("WebP cut in half", "rejected: undecodable", "a.webp", lambda: half(saved(noise(), "WEBP")))
file("AVIF cut in half", "rejected: undecodable", "a.avif", lambda: half(saved(noise(), "AVIF")))
file("TIFF cut in half", "rejected: truncated", "a.tif", lambda: half(saved(noise(), "TIFF")))
file("PNG with a wrong checksum", "rejected: undecodable", "a.png", lambda: flipped(png(8, 8), 17))
file("PNG of no width", "rejected: undecodable", "a.png", lambda: png(0, 8))
file("PNG whose pixels end early", "rejected: truncated", "a.png", lambda: png(99, 99, pixels=bytes(50)))
file("web page called .jpg", "rejected: not_an_image", "a.jpg", lambda: b"<!DOCTYPE html><title>404</title>")
file("SVG with a script", "rejected: not_an_image", "a.svg", lambda: b"<svg><script>alert(1)</script></svg>")
file("EPS, which would start Ghostscript", "rejected: not_an_image", "a.eps", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n")
file("PDF called .png", "rejected: not_an_image", "a.png", lambda: b"%PDF-1.7\n1 0 obj\n")
file("a megabyte of zeros", "rejected: not_an_image", "a.jpg", lambda: bytes(1 << 20))
file("zip archive", "rejected: not_an_image", "a.zip", lambda: b"PK\x03\x04" + bytes(50))
file("text beside no image", "rejected: not_an_image", "notes.txt", lambda: b"notes")
file("caption beside its image", "1 sidecar", "good.txt", lambda: b"a good image")

# Images too large
file("PNG that claims 60,000 x 60,000", "rejected: too_many_pixels", "a.png", lambda: png(60_000, 60_000, pixels=b""))
file("PNG bomb, 20,000 x 20,000 in 390 KB", "rejected: too_many_pixels", "a.png", bomb)
file("PNG that claims 2^31 x 2^31", "rejected: too_many_pixels", "a.png", lambda: png(2**31 - 1, 2**31 - 1, pixels=b""))
file("JPEG of 20,000 scans in 2 MB", "rejected: too_many_scans", "a.jpg", lambda: many_scans(6000, 20_000))
file("small JPEG of 60 scans", "1 sample", "a.jpg", lambda: many_scans(64, 60))
file("65,500 pixels wide", "1 sample", "a.jpg", lambda: saved(Image.new("L", (65_500, 8)), "JPEG"))
file("text chunk that unpacks to 80 MB", "rejected: undecodable", "a.png", lambda: texts(b"zTXt", 1, 80_000_000))
file("10,000 text chunks", "1 sample", "a.png", lambda: texts(b"zTXt", 10_000, 10))
file(
    "4 MB of JPEG metadata", "1 sample", "a.jpg", lambda: (d := jpeg())[:2] + b"\xff\xe5\xff\xff" + bytes(65533) + d[2:]
)

# Odd but good images
for _form, _mode in (("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "1"), ("PNG", "P")):
    file(f"{_form} of mode {_mode}", "1 sample", "a", lambda f=_form, m=_mode: saved(noise(mode=m), f))  # type: ignore[misc]
file(
    "PNG of 16 bits",
    "1 sample",
    "a.png",
    lambda: saved(Image.fromarray(np.arange(64, dtype="u2").reshape(8, 8)), "PNG"),
)
file("TIFF of floats", "1 sample", "a.tif", lambda: saved(Image.fromarray(np.eye(9, dtype="f4")), "TIFF"))
file("palette with transparency", "1 sample", "a.png", lambda: saved(noise(mode="P"), "PNG", transparency=3))
file("one pixel", "1 sample", "a.png", lambda: png(1, 1))
for _form in ("GIF", "PNG", "WEBP", "TIFF"):
    file(f"animated or many pages: {_form}", "1 sample", "a", lambda f=_form: animated(f))  # type: ignore[misc]
file("two pictures in one JPEG (MPO)", "1 sample", "a.jpg", lambda: animated("MPO"))
file("PNG called .jpg", "1 sample", "a.jpg", lambda: saved(noise(), "PNG"))
file("JPEG called .txt", "1 sample", "a.txt", jpeg)
file("JPEG without a suffix", "1 sample", "a", jpeg)
file("EXIF orientation 6", "1 sample", "a.jpg", lambda: with_exif(6))
file("EXIF orientation 99", "1 sample", "a.jpg", lambda: with_exif(99))
file("EXIF that is rubbish", "1 sample", "a.jpg", lambda: jpeg(exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff" + bytes(9)))
file(
    "colour profile",
    "1 sample",
    "a.jpg",
    lambda: jpeg(icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
)
file("colour profile that is rubbish", "1 sample", "a.jpg", lambda: jpeg(icc_profile=os.urandom(900)))
file("JPEG with a zip behind it", "1 sample", "a.jpg", lambda: jpeg() + b"PK\x03\x04" + bytes(99))
file("script in the comment", "1 sample", "a.jpg", lambda: jpeg(comment=b"<script>alert(1)</script>"))


@kind("script in a PNG's text", "1 sample")
def _(folder: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("Title", "<script>alert(1)</script>\u202e")
    noise().save(folder / "a.png", pnginfo=info)


# Names, links and what is no file
file("name with a newline", "1 sample", "a\nb.png", lambda: saved(noise(), "PNG"))
file("name with emoji and right-to-left mark", "1 sample", "😀\u202egnp.png", lambda: saved(noise(), "PNG"))
file("name of 255 bytes", "1 sample", "n" * 251 + ".png", lambda: saved(noise(), "PNG"))
file("name that is no UTF-8", "1 sample", os.fsdecode(b"\xff\xfe.png"), lambda: saved(noise(), "PNG"))
file("name with quotes and a semicolon", "1 sample", "a'; drop table x;\".png", lambda: saved(noise(), "PNG"))
file("hidden file", "1 hidden", "._a.png", lambda: saved(noise(), "PNG"))
file("hidden folder", "1 hidden", ".git/a.png", lambda: saved(noise(), "PNG"))
file("folder called a.jpg", "1 sample", "a.jpg/b.png", lambda: saved(noise(), "PNG"))
file("50 folders deep", "1 sample", "d/" * 50 + "a.png", lambda: saved(noise(), "PNG"))


@kind("link to the folder that holds it", "rejected: symlink_loop")
def _(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)


@kind("link to itself", "rejected: symlink_loop")
def _(folder: Path) -> None:
    (folder / "a.png").symlink_to(folder / "a.png")


@kind("link to nothing", "rejected: unreadable")
def _(folder: Path) -> None:
    (folder / "a.png").symlink_to(folder / "nowhere")


@kind("links that multiply (10 folders, 10 links each)", "rejected: 100 x symlink_loop")
def _(folder: Path) -> None:
    places = [folder / f"f{n}" for n in range(10)]
    for place in places:
        place.mkdir()
        for number, other in enumerate(places):
            (place / f"l{number}").symlink_to(other)


@kind("pipe", "rejected: not_a_file")
def _(folder: Path) -> None:
    os.mkfifo(folder / "a.png")


@kind("socket", "rejected: not_a_file")
def _(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("a.png")
    finally:
        os.chdir(here)


@kind("link to an endless device", "rejected: not_a_file")
def _(folder: Path) -> None:
    (folder / "a.png").symlink_to("/dev/zero")


@kind("file whose reading fails", "rejected: unreadable")
def _(folder: Path) -> None:
    (folder / "a.png").symlink_to("/proc/self/mem")


@kind("sparse file of 4 GB", "rejected: too_large")
def _(folder: Path) -> None:
    with (folder / "a.png").open("wb") as out:
        out.truncate(4 << 30)


# Tars
PNGS = [saved(noise(seed), "PNG") for seed in range(5)]


def tar(*members: tuple[str, bytes] | tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def entry(name: str, form: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = form, target
    return info


def five() -> bytes:
    return tar(*[(f"{number}.png", data) for number, data in enumerate(PNGS)])


def renumbered(size: int, member: int = 2) -> bytes:
    """Five members, one of which lies about its size."""
    data = bytearray(five())
    block = 512
    place = sum(block + -(-len(one) // block) * block for one in PNGS[:member])
    info = tarfile.TarInfo.frombuf(bytes(data[place : place + block]), "utf-8", "strict")
    info.size = size
    data[place : place + block] = info.tobuf(tarfile.GNU_FORMAT)
    return bytes(data)


def greedy(form: bytes, size: int, body: bytes = b"") -> bytes:
    """A header that says how long its own text is, and a good member behind what there is of it."""
    info = entry("long", form)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT) + body + tar(("a.png", PNGS[0]))


file("tar: path traversal", "1 sample", "a.tar", lambda: tar(("../../../escape.png", PNGS[0])))
file("tar: absolute name", "1 sample", "a.tar", lambda: tar(("/etc/escape.png", PNGS[0])))
file("tar: one name, two images", "2 samples", "a.tar", lambda: tar(("a.png", PNGS[0]), ("a.png", PNGS[1])))
file("tar: the same image twice", "1 sample", "a.tar", lambda: tar(("a.png", PNGS[0]), ("b.png", PNGS[0])))
file(
    "tar: image, caption and JSON",
    "1 sample, 2 sidecars",
    "a.tar",
    lambda: tar(("1.png", PNGS[0]), ("1.txt", b"t"), ("1.json", b"{}")),
)
file(
    "tar: JSON without its image",
    "1 sample, rejected: not_an_image",
    "a.tar",
    lambda: tar(("1.png", PNGS[0]), ("2.json", b"{}")),
)
file("tar: a tar inside", "rejected: not_an_image", "a.tar", lambda: tar(("inner.tar", five())))
file("tar: cut in half", "2 samples, rejected: 2 x damaged_tar", "a.tar", lambda: five()[: len(five()) // 2 - 3000])
file("tar: no end mark", "5 samples, rejected: damaged_tar", "a.tar", lambda: five().rstrip(b"\0") + bytes(400))
file("tar: rubbish over a header", "4 samples, rejected: damaged_tar", "a.tar", lambda: b"\xee" * 512 + five()[512:])
file("tar: a size that lies", "4 samples, rejected: 2 x damaged_tar", "a.tar", lambda: renumbered(10**12))
file("tar: a negative size", "4 samples, rejected: damaged_tar", "a.tar", lambda: renumbered(-(2**40)))
file(
    "tar: two glued together",
    "5 samples",
    "a.tar",
    lambda: tar(("x.png", PNGS[0])) + tar(*[(f"{n}", p) for n, p in enumerate(PNGS)]),
)
file("tar: rubbish behind its end", "5 samples, rejected: damaged_tar", "a.tar", lambda: five() + b"\xee" * 700)
file("tar: symbolic link", "rejected: tar_link", "a.tar", lambda: tar(entry("a.png", tarfile.SYMTYPE, "/etc/passwd")))
file(
    "tar: hard link",
    "1 sample, rejected: tar_link",
    "a.tar",
    lambda: tar(("a.png", PNGS[0]), entry("b.png", tarfile.LNKTYPE, "a.png")),
)
file("tar: device", "rejected: tar_link", "a.tar", lambda: tar(entry("a.png", tarfile.CHRTYPE)))
file("tar: empty member", "rejected: empty", "a.tar", lambda: tar(("a.png", b"")))
file("tar: name of 4,000 characters", "1 sample", "a.tar", lambda: tar(("n" * 4000 + ".png", PNGS[0])))
for _what, _form in (("name", tarfile.GNUTYPE_LONGNAME), ("target", tarfile.GNUTYPE_LONGLINK)):
    file(
        f"tar: {_what} that claims 8 GB",
        "1 sample, rejected: damaged_tar",
        "a.tar",
        lambda form=_form: greedy(form, 8 << 30),  # type: ignore[misc]
    )
for _what, _form in (("pax", tarfile.XHDTYPE), ("global pax", tarfile.XGLTYPE), ("Solaris", tarfile.SOLARIS_XHDTYPE)):
    file(
        f"tar: {_what} header that claims 8 GB",
        "1 sample, rejected: damaged_tar",
        "a.tar",
        lambda form=_form: greedy(form, 8 << 30),  # type: ignore[misc]
    )
file(
    "tar: 2 MB of name",
    "1 sample, rejected: damaged_tar",
    "a.tar",
    lambda: greedy(tarfile.GNUTYPE_LONGNAME, 2 << 20, b"n" * (2 << 20)),
)
file("tar: zero bytes", "rejected: damaged_tar", "a.tar", lambda: b"")
file("tar: no member", "nothing", "a.tar", lambda: tar())
file("tar: really a zip", "rejected: damaged_tar", "a.tar", lambda: b"PK\x03\x04" * 999)
file("tar: compressed", "rejected: not_an_image", "a.tar.gz", lambda: b"\x1f\x8b" + bytes(50))


# Parquet
def parquet(columns: dict[str, object], **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, **options)
    return out.getvalue()


def broken_page() -> bytes:
    data = parquet({"image": PNGS}, row_group_size=2, use_dictionary=False, compression="zstd")
    start = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(1).column(0).data_page_offset
    return data[:start] + b"\xff" * 40 + data[start + 40 :]


def encrypted() -> bytes:
    import pyarrow.parquet.encryption as pe

    class Keys(pe.KmsClient):
        def __init__(self, _: object) -> None:
            pe.KmsClient.__init__(self)

        def wrap_key(self, key: bytes, _: str) -> bytes:
            return base64.b64encode(key)

        def unwrap_key(self, key: str, _: str) -> bytes:
            return base64.b64decode(key)

    factory = pe.CryptoFactory(Keys)
    settings = pe.EncryptionConfiguration(footer_key="k", column_keys={"k": ["image"]})
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), settings)
    return parquet({"image": PNGS}, encryption_properties=properties)


def doubled(*values: bytes) -> bytes:
    """Every value in a column of its own, all of one name."""
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array([value]) for value in values], ["image"] * len(values)), out)
    return out.getvalue()


def names_that_are_no_text(*names: bytes) -> bytes:
    """Images under names whose bytes are no UTF-8, in row groups of one."""
    lying = pa.array(names, pa.binary()).view(pa.string())
    images = pa.StructArray.from_arrays([pa.array(PNGS[: len(names)]), lying], ["bytes", "path"])
    return parquet({"image": images}, row_group_size=1)


_bad = "rejected: damaged_parquet"
file(
    "Parquet: as Hugging Face writes it",
    "5 samples",
    "a.parquet",
    lambda: parquet({"image": [{"bytes": p, "path": "same.png"} for p in PNGS]}),
)
file(
    "Parquet: null, empty and text among images",
    "1 sample, rejected: 2 x empty, not_an_image",
    "a.parquet",
    lambda: parquet({"image": [None, b"", b"text", PNGS[0]]}),
)
file(
    "Parquet: path that climbs",
    "1 sample",
    "a.parquet",
    lambda: parquet({"image": [{"bytes": PNGS[0], "path": "../../x.png"}]}),
)
file(
    "Parquet: no column of bytes",
    "rejected: wrong_schema",
    "a.parquet",
    lambda: parquet({"url": ["http://example.org"]}),
)
file(
    "Parquet: two columns that could be meant",
    "rejected: wrong_schema",
    "a.parquet",
    lambda: parquet({"one": PNGS, "two": PNGS}),
)
file("Parquet: two columns of one name", "rejected: wrong_schema", "a.parquet", lambda: doubled(*PNGS[:2]))
file(
    "Parquet: a struct made flat, its dots in the names",
    "5 samples",
    "a.parquet",
    lambda: parquet({"image.bytes": PNGS, "image.path": ["same.png"] * 5}),
)
file(
    "Parquet: a name that is no UTF-8",
    "3 samples",
    "a.parquet",
    lambda: names_that_are_no_text(b"\xff\xfe.png", b"b.png", b"c.png"),
)
file("Parquet: no rows", "nothing", "a.parquet", lambda: parquet({"image": pa.array([], pa.binary())}))
file("Parquet: no columns", "rejected: wrong_schema", "a.parquet", lambda: parquet({}))
file("Parquet: a damaged page", "3 samples, rejected: damaged_parquet", "a.parquet", broken_page)
file("Parquet: cut in half", _bad, "a.parquet", lambda: half(parquet({"image": PNGS})))
file(
    "Parquet: a damaged footer",
    _bad,
    "a.parquet",
    lambda: (d := parquet({"image": PNGS}))[:-60] + os.urandom(50) + d[-10:],
)
file("Parquet: encrypted", _bad, "a.parquet", encrypted)
file("Parquet: really a CSV", _bad, "a.parquet", lambda: b"image\n1\n")
file("Parquet: zero bytes", _bad, "a.parquet", lambda: b"")
