"""Opening, relocating and loading objects, beside bpftool."""
