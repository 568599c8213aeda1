"""Shared fixtures: deterministic properties, few threads, the data folder, a browser."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

# the models here are so small that a second thread gains little, and on a busy machine threads that
# wait for each other cost up to twenty times; processes that tests start inherit the limit
os.environ.setdefault("OMP_NUM_THREADS", "1")

# where a test runs alone or not must not decide whether it passes: no deadline, the same examples
# on every run in CI, fresh ones on a developer's machine
settings.register_profile(
    "local", deadline=None, suppress_health_check=[HealthCheck.differing_executors]
)
settings.register_profile("ci", parent=settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder that holds mnist/ and gtsrb/."""
    value = os.environ.get("CASEMATE_DATA")
    if not value:
        pytest.skip("CASEMATE_DATA is not set: point it at a folder that holds mnist/ and gtsrb/")
    folder = Path(value).resolve()
    if not folder.is_dir():  # set but wrong is a mistake, not a reason to skip
        pytest.fail(f"CASEMATE_DATA is {value}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A headless Chromium."""
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    chromedriver = shutil.which("chromedriver")
    if browser is None or chromedriver is None:
        reason = "needs chromium and chromedriver in PATH"
        if os.environ.get("CASEMATE_REQUIRE_BROWSER"):
            pytest.fail(f"CASEMATE_REQUIRE_BROWSER is set but the test {reason}")
        pytest.skip(reason)

    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new",
        "--disable-gpu",
        "--disable-dev-shm-usage",  # containers give /dev/shm too little
        "--hide-scrollbars",
        "--window-size=1280,1000",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to run as root with it
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    try:
        yield chrome
    finally:
        chrome.quit()
