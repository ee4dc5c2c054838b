"""Other kernels: unmodified Debian ones, booted under emulation, that see this machine's files read-only."""
