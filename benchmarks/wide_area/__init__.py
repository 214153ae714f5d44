"""The wide area on one machine: donors and client on hosts of ``benchmarks.internet``."""
