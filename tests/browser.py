"""A headless Chromium for tests of the pages, with a profile of its own and no calls to the outside."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def skip_without_browser() -> tuple[str, str]:
    """The paths of Chromium and its driver; skips the test by name where one is missing."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None:
        pytest.skip("chromium is not installed")
    if driver is None:
        pytest.skip("chromedriver is not installed")
    return chromium, driver


@contextmanager
def open_browser(profile: Path) -> Iterator[Chrome]:
    """``profile`` is an empty folder for this browser alone."""
    chromium, driver = skip_without_browser()
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options=options, service=ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def view(browser: Chrome, width: int, height: int, scheme: str = "light", motion: str = "reduce") -> None:
    """Give the page a size in CSS pixels, a colour scheme and a liking for motion."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": motion},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def complaints(browser: Chrome) -> list[str]:
    """What the console says is wrong: refused scripts, failed requests, uncaught errors."""
    logs = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in logs if entry["level"] in ("SEVERE", "WARNING")]
