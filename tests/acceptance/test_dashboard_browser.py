"""`hpo dashboard` in a real browser, as its user sees it, and how it ends."""

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.engine import open_database
from tests.acceptance.service import Running, Service
from tests.integration.finished import finished_study

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver (Debian: chromium-driver) are not installed"
)


class Browser:
    """Headless Chromium."""

    def __init__(self, profile: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service as Driver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for flag in (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Driver(DRIVER))
        self.driver.set_page_load_timeout(30)

    def wait_for(self, script: str) -> object:
        """The first true value of a JavaScript expression."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 30, 0.1).until(
            lambda driver: driver.execute_script(f"return {script}")
        )

    def complaints(self) -> list[str]:
        """What the browser refused or could not load, a policy's refusals among them."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    found = Browser(tmp_path / "profile")
    try:
        yield found
    finally:
        found.driver.quit()


def address(service: Service, running: Running) -> str:
    found = service.await_(lambda: re.search(r"dashboard: (http://\S+)/ ", running.output()))
    return found.group(1)


def fill(service: Service) -> int:
    with open_database(service.url, Path("unused")) as database:
        return finished_study(database).study_id


@needs_browser
def test_pages_load_with_a_trial_s_pictures_and_nothing_can_be_written(
    service: Service, browser: Browser
) -> None:
    study = fill(service)
    url = address(service, service.start("dashboard", "--port", 0))
    browser.driver.get(f"{url}/dashboard/studies/{study}")
    browser.wait_for("document.querySelectorAll('.js-plotly-plot').length >= 2")
    browser.driver.get(f"{url}/dashboard/studies/{study}/trials?numbers=0")
    widths = browser.wait_for(
        "(images => images.length == 2 && images.every(i => i.complete) && images.map(i => i.naturalWidth))"
        "([...document.images].filter(i => i.src.includes('/artifacts/')))"
    )
    assert min(widths) > 500  # type: ignore[call-overload]
    browser.driver.get(f"{url}/dashboard/studies/{study}/note")
    browser.wait_for("document.querySelector('a[href=\"/reports/demo/report.html\"]')")
    assert browser.complaints() == []

    status = browser.driver.execute_async_script(
        f"fetch('/api/studies/{study}', {{method: 'DELETE', body: '{{}}'}}).then(a => arguments[0](a.status))"
    )
    assert status == 403
    assert len(service.study("demo").get_trials()) == 2
    browser.complaints()

    browser.driver.find_element("css selector", 'a[href="/reports/demo/report.html"]').click()
    browser.driver.switch_to.window(browser.driver.window_handles[-1])
    browser.wait_for("document.title == 'Study demo' && document.querySelectorAll('.main-svg').length > 3")
    assert browser.complaints() == []


@needs_browser
def test_a_wrong_password_is_refused(service: Service, browser: Browser) -> None:
    service.set(HPO_DASHBOARD_PASSWORD="right")
    url = address(service, service.start("dashboard", "--port", 0, "--host", "0.0.0.0"))
    port = url.rpartition(":")[2]
    browser.driver.get(f"http://hpo:wrong@127.0.0.1:{port}/dashboard")
    assert not browser.driver.execute_script("return document.querySelector('#root, #dashboard')")
    browser.driver.get(f"http://hpo:right@127.0.0.1:{port}/dashboard")
    browser.wait_for("document.title == 'Optuna Dashboard' && document.querySelectorAll('button').length")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(service: Service, number: int) -> None:
    running = service.start("dashboard", "--port", 0)
    address(service, running)
    running.send_signal(number)
    ended = running.wait(10.0)
    assert (ended.code, ended.err) == (0, "")
    assert service.processes() == []


def test_others_are_not_let_in_without_a_password(service: Service) -> None:
    ended = service.hpo("dashboard", "--host", "0.0.0.0")
    assert ended.code == 2
    assert "HPO_DASHBOARD_PASSWORD" in ended.complaint
