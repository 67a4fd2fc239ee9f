"""Takes a picture of an HTML file as a browser shows it, for docs/ and to look at.

python tools/docs/screenshot.py runs/latest/report.html docs/report.png
"""

from __future__ import annotations

import argparse
import base64
import shutil
import sys
import tempfile
from pathlib import Path

from selenium import webdriver

_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars")


def main() -> None:
    """Opens the file, and writes what is seen as PNG or what would be printed as PDF."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, help="HTML file")
    parser.add_argument("picture", type=Path, help=".png, or .pdf for the page in print")
    parser.add_argument("--width", type=int, default=1200, help="of the window [1200]")
    parser.add_argument("--height", type=int, default=1500, help="of the window [1500]")
    parser.add_argument("--top", type=int, default=0, help="scroll down by this much [0]")
    parser.add_argument("--dark", action="store_true", help="as on a dark desktop")
    options = parser.parse_args()
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        sys.exit("no browser: install Debian's packages chromium and chromium-driver")
    with tempfile.TemporaryDirectory() as profile:
        browser = _open(chromium, driver, profile)
        try:
            _take(browser, options)
        finally:
            browser.quit()


def _open(chromium: str, driver: str, profile: str) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def _take(browser: webdriver.Chrome, options: argparse.Namespace) -> None:
    size = {"width": options.width, "height": options.height}
    metrics = {**size, "deviceScaleFactor": 1, "mobile": options.width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    if options.dark:
        scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    browser.get(options.page.resolve().as_uri())
    if options.picture.suffix == ".pdf":
        printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        content = printed["data"]
    else:
        clip = {"x": 0, "y": options.top, **size, "scale": 1}
        asked = {"format": "png", "clip": clip, "captureBeyondViewport": True}
        content = browser.execute_cdp_cmd("Page.captureScreenshot", asked)["data"]
    options.picture.write_bytes(base64.b64decode(content))


if __name__ == "__main__":
    main()
