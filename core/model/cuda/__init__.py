"""BLOOM's layers on NVIDIA GPUs: kernels of our own, a cache in pages, recorded graphs."""
