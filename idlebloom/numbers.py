"""Numbers on the command line, checked where they are read: a bad one is a bad argument (exit code 2)."""

from __future__ import annotations

import argparse
import ipaddress
import math


def donors(text: str) -> int:
    return _whole(text, 1, 64)


def tokens(text: str) -> int:
    return _whole(text, 1, 1_000_000)


def port(text: str) -> int:
    """0 takes any."""
    return _whole(text, 0, 65535)


def address(text: str) -> str:
    """An IPv4 address of this PC."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"“{text}” is not an IPv4 address such as 0.0.0.0") from None


def seed(text: str) -> int:
    return _whole(text, 0, 2**31 - 1)


def rest(text: str) -> float:
    """Seconds."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 60:
        raise argparse.ArgumentTypeError(f"“{text}” is not a number of seconds from 0 to 60")
    return number


def _whole(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"“{text}” is not a whole number from {least} to {most}")
    return int(text)
