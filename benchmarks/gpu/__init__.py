"""BLOOM-176B's blocks on an NVIDIA GPU: what they reach of what the hardware allows."""
