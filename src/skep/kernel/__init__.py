"""The seam between programs and kernels: the `Kernel` protocol, and the handles written against it."""
