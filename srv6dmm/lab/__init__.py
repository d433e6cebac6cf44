"""A whole domain of real kernels on one host."""
