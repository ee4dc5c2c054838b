"""Kernel functions that read what a program without CAP_PERFMON may not know (KF_PERFMON, Linux 7.3)."""

from __future__ import annotations

from typing import Final

_TEXT: Final = """
bpf_rdonly_cast bpf_iter_bits_new bpf_copy_from_user_str bpf_copy_from_user_task_str bpf_get_kmem_cache
bpf_probe_read_user_dynptr bpf_probe_read_kernel_dynptr bpf_probe_read_user_str_dynptr
bpf_probe_read_kernel_str_dynptr bpf_copy_from_user_dynptr bpf_copy_from_user_str_dynptr
bpf_copy_from_user_task_dynptr bpf_copy_from_user_task_str_dynptr
bpf_strcmp bpf_strcasecmp bpf_strncasecmp bpf_strchr bpf_strchrnul bpf_strnchr bpf_strrchr bpf_strlen
bpf_strnlen bpf_strspn bpf_strcspn bpf_strstr bpf_strcasestr bpf_strnstr bpf_strncasestr
bpf_stream_vprintk bpf_stream_print_stack
"""
NAMES: Final = frozenset(_TEXT.split())
