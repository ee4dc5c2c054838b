"""The BTF of other kernels, taken out of their images without booting them."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

from skep.elf import Elf
from tests.kernels import images


def btf(prefix: str) -> Path:
    """A raw BTF file of the kernel whose name begins with ``prefix``, fetched if need be.

    Raises:
        images.Missing: no such kernel can be had here.
    """
    image = images.find(prefix) or images.fetch(prefix)
    out = images.cache() / "btf" / f"{image.name}.btf"
    if not out.exists():
        section = Elf(_vmlinux(image.kernel.read_bytes())).section(".BTF")
        if section is None:
            raise images.Missing(f"types in kernel {image.name}")
        data = bytes(section.data)
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_suffix(f".{os.getpid()}")
        part.write_bytes(data)
        part.rename(out)
    return out


def _vmlinux(image: bytes) -> bytes:
    """The ELF file in a bzImage: Documentation/arch/x86/boot.rst, setup_sects, payload_offset and _length."""
    if image[0x202:0x206] != b"HdrS":
        raise images.Missing("a kernel image of a known form")
    start = ((image[0x1F1] or 4) + 1) * 512 + int.from_bytes(image[0x248:0x24C], "little")
    payload = image[start : start + int.from_bytes(image[0x24C:0x250], "little")]
    if payload[:6] == b"\xfd7zXZ\0":
        # The kernel's build puts the plain size after the stream.
        return lzma.LZMADecompressor().decompress(payload)
    if payload[:4] == b"\x28\xb5\x2f\xfd":
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(payload)
    if payload[:4] == b"\x02\x21\x4c\x18":
        return _lz4_legacy(payload)
    raise images.Missing(f"a decompressor for a kernel image that begins {payload[:6].hex()}")


def _lz4_legacy(payload: bytes) -> bytes:
    """lz4's old frame: blocks of at most 8 MiB, each behind its compressed size."""
    import lz4.block

    out, at = bytearray(), 4
    while at + 4 <= len(payload):
        size = int.from_bytes(payload[at : at + 4], "little")
        at += 4
        if size > len(payload) - at:
            break  # the plain size, which the kernel's build puts behind the last block
        out += lz4.block.decompress(payload[at : at + size], uncompressed_size=8 << 20)
        at += size
    return bytes(out)
