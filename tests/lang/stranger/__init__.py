"""Programs of the kinds people write with BCC, libbpf and bpftrace; see test_stranger."""
