"""What the commands named after kernel objects share: bpftool's grammar, its JSON, and finding objects."""
