"""`hpo dashboard` in a real browser, as its user sees it, and how it ends."""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpo.dashboard.answers import CHANGES, REFUSED, style
from storage.opening import open_database
from tests.acceptance.service import Running, Service
from tests.integration.rows import finished_study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.xdist_group("dashboard")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def browser(server_folder: Path) -> Iterator[Browser]:
    """A headless browser: an installed Chromium, else the one that Playwright has downloaded."""
    from playwright.sync_api import Error, sync_playwright

    # Not pytest's folder: the path of Chromium's socket would be too long.
    folder = Path(tempfile.mkdtemp(dir=server_folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        with sync_playwright() as playwright:
            try:
                found = playwright.chromium.launch(
                    executable_path=CHROMIUM,
                    chromium_sandbox=False,
                    args=["--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"],
                )
            except Error as error:
                if "Executable doesn't exist" not in str(error):
                    raise
                pytest.skip("the dashboard in a browser (install chromium)")
            yield found
            found.close()
    shutil.rmtree(folder)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A window with cookies, passwords and a cache of its own."""
    # Drawing takes the processor most of the time: less of it, and each chart and dialog once.
    found = browser.new_context(viewport={"width": 1000, "height": 600}, reduced_motion="reduce")
    # Half a minute is too short where two suites run at once.
    found.set_default_timeout(120_000)
    yield found
    found.close()


def watch(page: Page) -> list[str]:
    """Return the list to which errors of a page will be added: of scripts, of resources, of its policy."""
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors


def shown(page: Page, controls: Mapping[str, str]) -> set[str]:
    """Return the controls that the user sees."""
    return {
        name for name, selector in controls.items() if page.locator(f"{selector} >> visible=true").count()
    }


def hidden(page: Page, controls: Mapping[str, str]) -> set[str]:
    """Return the controls that are in the page, but that the user does not see."""
    there = {name for name, selector in controls.items() if page.locator(selector).count()}
    return there - shown(page, controls)


def address(service: Service, running: Running) -> str:
    found = service.wait_for(lambda: re.search(r"dashboard: (http://\S+)/ ", running.output()))
    return found.group(1).replace("0.0.0.0", "127.0.0.1")


def visit(page: Page, path: str) -> None:
    """Go to another of the dashboard's pages as a link in it does: its scripts, which take seconds, stay loaded."""
    page.evaluate(
        "path => { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')) }", path
    )


def fill(service: Service) -> int:
    with open_database(service.url, Path("unused")) as database:
        return finished_study(database).study_id


def test_dashboard_shows_charts_artifacts_and_report_read_only(
    service: Service, context: BrowserContext
) -> None:
    study = fill(service)
    url = address(service, service.start("dashboard", "--port", 0))
    page = context.new_page()
    errors = watch(page)
    page.goto(f"{url}/dashboard")
    page.get_by_text("Reload").wait_for()
    assert shown(page, {**REFUSED, **CHANGES}) == set()
    # Each address has a page that a user may open first.
    for path in (f"studies/{study}", f"studies/{study}/trials", f"studies/{study}/note"):
        assert style(False) in page.request.get(f"{url}/dashboard/{path}").text()
    visit(page, f"/dashboard/studies/{study}")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length >= 2")
    page.get_by_text("Study Artifacts").wait_for()
    assert shown(page, {**REFUSED, **CHANGES}) == set()
    visit(page, f"/dashboard/studies/{study}/trials?numbers=0")
    widths = page.wait_for_function(
        "(images => images.length == 2 && images.every(i => i.complete) && images.map(i => i.naturalWidth))"
        "([...document.images].filter(i => i.src.includes('/artifacts/')))"
    )
    assert min(widths.json_value()) > 500
    assert shown(page, {**REFUSED, **CHANGES}) == set()
    visit(page, f"/dashboard/studies/{study}/note")
    page.wait_for_selector('a[href="/reports/demo/report.html"]')
    assert errors == []

    status = page.evaluate(
        f"fetch('/api/studies/{study}', {{method: 'DELETE', body: '{{}}'}}).then(answer => answer.status)"
    )
    assert status == 403
    assert len(service.study("demo").get_trials()) == 2

    errors.clear()
    page.click('a[href="/reports/demo/report.html"]')
    # The report's policy forbids the `eval` of `wait_for_function`.
    page.locator(".main-svg").nth(3).wait_for(state="attached")
    assert page.title() == "Study demo"
    assert errors == []


def test_changes_that_are_allowed_are_offered_to_whom_knows_the_password(
    service: Service, context: BrowserContext
) -> None:
    service.set(HPO_DASHBOARD_PASSWORD="right-one")
    study = fill(service)
    everywhere = ("--port", 0, "--host", "0.0.0.0", "--allow-changes")
    url = address(service, service.start("dashboard", *everywhere))
    with pytest.raises(Exception, match="ERR_INVALID_AUTH_CREDENTIALS"):
        context.new_page().goto(url.replace("//", "//hpo:wrong@") + "/dashboard")
    page = context.new_page()
    # The browser keeps the password; pages at an address that holds one cannot send requests.
    page.goto(url.replace("//", "//hpo:right-one@") + "/api/studies")
    page.goto(f"{url}/dashboard/studies/{study}/trials?numbers=0")
    page.wait_for_function(
        "document.title == 'Optuna Dashboard' && document.querySelectorAll('button').length"
    )
    page.locator(CHANGES["write a note"]).click()
    page.get_by_text("Markdown Editor").wait_for()
    # The editor takes no images.
    assert shown(page, REFUSED) == set()
    page.locator("textarea").first.fill("well done")
    with page.expect_response(lambda answer: answer.request.method == "PUT") as saved:
        page.get_by_text("Save").click()
    assert saved.value.ok, saved.value.text()
    # The page asks for finished trials once: an answer from before the note may hide it until the page is loaded again.
    page.reload()
    page.locator("p", has_text="well done").wait_for()

    visit(page, "/dashboard")
    delete = page.locator(CHANGES["delete a study"])
    delete.wait_for()
    assert shown(page, REFUSED) == set()
    assert hidden(page, REFUSED) >= {"create a study", "rename a study"}
    delete.click()
    page.get_by_role("dialog").get_by_text("Yes").click()
    page.get_by_text("Success to delete a study").wait_for()
    assert "demo" not in service.hpo("ls").clean().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_dashboard(service: Service, number: int) -> None:
    running = service.start("dashboard", "--port", 0)
    address(service, running)
    running.send_signal(number)
    running.wait().clean()
    assert service.processes() == []


def test_dashboard_on_all_addresses_needs_a_password(service: Service) -> None:
    ended = service.hpo("dashboard", "--host", "0.0.0.0")
    assert "HPO_DASHBOARD_PASSWORD" in ended.complaint(2)
