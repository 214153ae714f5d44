"""The background process of this PC."""
