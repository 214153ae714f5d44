"""BLOOM for inference, and its sampling and text."""
