"""Where Chromium is."""

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = (
    "No Chromium: the browser tests and make pdf need one on the PATH "
    "(on Debian: apt install chromium) or its path in the environment variable CHROMIUM."
)


def find() -> str | None:
    """The browser's path: what CHROMIUM names, or the first on the PATH."""
    named = os.environ.get("CHROMIUM")
    if named:
        return shutil.which(named)
    return next((path for name in NAMES if (path := shutil.which(name))), None)
