"""BTF, the type information of BPF programs and of the kernel: read, built, deduplicated and printed."""

from skep.btf.read import Btf

__all__ = ["Btf"]
