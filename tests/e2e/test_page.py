"""The page in a real browser: it works, loads nothing from elsewhere, is small, and orders reach the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.api.web import island
from tests.api.web.served import PASSWORD, Site, serve, site

FIRST_LOAD_KB = 150
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def browser(peer: Callable[[str], Path]) -> Iterator[Browser]:
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=str(peer("chromium")), args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    data = tmp_path_factory.mktemp("data")
    island.remember(data)
    made = site(data)
    with serve(made) as base:
        yield made, base
    made.close()


@dataclass
class Visit:
    """One open page, and what went wrong in it."""

    page: Page
    faults: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    received: list[float] = field(default_factory=list)


@pytest.fixture
def visit(browser: Browser, served: tuple[Site, str]) -> Iterator[Callable[..., Visit]]:
    open_pages: list[Page] = []

    def make(locale: str = "en-GB", width: int = 1360, scheme: str = "light") -> Visit:
        page = browser.new_context(viewport={"width": width, "height": 900}, locale=locale, color_scheme=scheme).new_page()
        found = Visit(page)
        page.on("pageerror", lambda error: found.faults.append(str(error)))
        page.on("console", lambda said: found.faults.append(said.text) if said.type in ("error", "warning") else None)
        page.on("request", lambda request: found.asked.append(request.url))
        wire = page.context.new_cdp_session(page)
        wire.send("Network.enable")
        wire.on("Network.loadingFinished", lambda done: found.received.append(done["encodedDataLength"]))
        page.goto(served[1])
        expect(page.locator("#up .unit")).to_have_count(6)
        open_pages.append(page)
        return found

    yield make
    for page in open_pages:
        page.context.close()


def sign_in(page: Page, name: str = "olga") -> None:
    page.locator("#who").click()
    page.locator("[name=username]").fill(name)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("#who")).to_contain_text(name)


def pressed(page: Page, text: str) -> None:
    page.locator("dialog").get_by_role("button", name=text, exact=True).click()


def test_it_answers_the_three_questions_in_english(visit: Callable[..., Visit], served: tuple[Site, str], tmp_path: Path):
    seen = visit()
    page = seen.page
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator("h1")).to_have_text("River island")
    expect(page.locator("#bus")).to_contain_text("bus formed by inv1")
    expect(page.locator("#why")).to_contain_text("dg3 does not answer")
    expect(page.locator("#alarms .alarm")).to_have_count(2)
    expect(page.locator("#pills")).to_contain_text("alarms to see: 1")
    expect(page.locator(".unit.forming")).to_contain_text("inv1")
    expect(page.locator(".unit.stale")).to_contain_text("no answer for 12 min")
    expect(page.locator("#times")).to_contain_text("JST")
    expect(page.locator("#times")).to_contain_text("site")
    for text in ("214", "3,41", "100 %", "82,200"):
        expect(page.locator("#tiles")).to_contain_text(text)
    expect(page.locator("#tiles")).not_to_contain_text("creditable")  # not known: not shown
    expect(page.locator("#chart .past path").first).to_be_attached()
    expect(page.locator("#chart .planned path").first).to_be_attached()
    page.screenshot(path=tmp_path / "en.png", full_page=True)
    assert seen.faults == []
    assert all(url.startswith(served[1]) for url in seen.asked)


def test_the_first_load_fits_a_thin_link(visit: Callable[..., Visit]):
    seen = visit()
    expect(seen.page.locator("#chart .past path").first).to_be_attached()
    expect(seen.page.locator("#tiles")).to_contain_text("214")
    assert 10 < sum(seen.received) / 1000 < FIRST_LOAD_KB


def test_japanese_is_complete_kept_and_in_a_japanese_font(visit: Callable[..., Visit], tmp_path: Path):
    page = (seen := visit()).page
    page.locator("#lang").click()
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    for place, text in {
        "h1": "川の島",
        "#h-now": "現在",
        "#bus": "母線形成",
        "#why": "応答がない",
        "#alarms": "確認",
        "#times": "現地",
        "#pills": "自動",
    }.items():
        expect(page.locator(place)).to_contain_text(text)
    page.reload()
    expect(page.locator("h1")).to_have_text("川の島")
    wire = page.context.new_cdp_session(page)
    for domain in ("DOM", "CSS"):
        wire.send(f"{domain}.enable")
    node = wire.send("DOM.querySelector", {"nodeId": wire.send("DOM.getDocument")["root"]["nodeId"], "selector": "h1"})["nodeId"]
    fonts = [f["familyName"] for f in wire.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]]
    assert any(word in font for font in fonts for word in ("CJK", "IPA", "Gothic", "Noto Sans JP")), fonts
    page.screenshot(path=tmp_path / "ja.png", full_page=True)
    assert seen.faults == []


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (820, "light")])
def test_it_fits_small_screens(visit: Callable[..., Visit], tmp_path: Path, width: int, scheme: str):
    page = (seen := visit("ja-JP", width, scheme)).page
    expect(page.locator("#chart .past path").first).to_be_attached()
    box = page.locator("main").bounding_box()
    assert box is not None
    assert box["width"] <= width
    for unit in page.locator(".unit").all():
        inner = unit.bounding_box()
        assert inner is not None
        assert inner["x"] >= 0
        assert inner["x"] + inner["width"] <= width
    page.screenshot(path=tmp_path / f"{width}-{scheme}.png", full_page=True)
    assert seen.faults == []


def test_values_move_and_a_page_in_the_dark_says_so(visit: Callable[..., Visit]):
    page = (seen := visit()).page
    before = page.locator("#times").text_content()
    expect(page.locator("#times")).not_to_have_text(str(before))
    expect(page.locator("#banner")).to_be_hidden()
    page.route("**/api/v1/stream", lambda route: route.abort())
    page.reload()
    expect(page.locator("#banner")).to_contain_text("No link", timeout=10_000)
    page.unroute("**/api/v1/stream")
    expect(page.locator("#banner")).to_be_hidden(timeout=20_000)
    expect(page.locator("#up .unit")).to_have_count(6)
    assert all("ERR_FAILED" in fault for fault in seen.faults), seen.faults


def test_a_limit_is_changed_with_confirmation(visit: Callable[..., Visit], served: tuple[Site, str]):
    page = (seen := visit()).page
    page.locator("#up .unit", has_text="pv1").click()
    expect(page.locator("dialog")).to_contain_text("pv1 is at 736 kW because of surplus")
    expect(page.locator("dialog .grid input").first).to_be_disabled()
    page.keyboard.press("Escape")
    sign_in(page)
    page.locator("#up .unit", has_text="pv1").click()
    page.locator("dialog .grid input").first.fill("400")
    page.locator("dialog section", has_text="Limits").locator("[name=reason]").fill("works on the roof")
    pressed(page, "Change limits")
    assert served[0].desk.requests.limits("pv1", island.NOW).max_kw is None  # asked, not sent
    pressed(page, "Confirm")
    expect(page.locator("dialog")).to_contain_text("Saved")
    expect(page.locator("dialog")).to_contain_text("Set by olga: works on the roof")
    assert served[0].desk.requests.limits("pv1", island.NOW).max_kw == 400.0
    assert seen.faults == []


def test_an_order_shows_what_came_of_it(visit: Callable[..., Visit], served: tuple[Site, str]):
    from ems.model import Status

    page = visit().page
    sign_in(page)
    page.locator("#up .unit", has_text="dg2").click()
    page.locator("dialog [name=reason]").first.fill("test run")
    pressed(page, "Start")
    expect(page.locator("dialog .confirm")).to_contain_text("stays in manual until it is released")
    pressed(page, "Confirm")
    note = page.locator("dialog .said").first
    expect(note).to_contain_text("Waiting for the controller")
    sent = served[0].desk.requests.newest(1, "command")[0]
    assert (sent.asset, sent.body["action"], sent.body["reason"], sent.by) == ("dg2", "start", "test run", "olga")
    served[0].settle(sent.id, Status.REJECTED, "it is not ready")
    expect(note).to_contain_text("Refused · it is not ready")


def test_the_end_of_a_limit_stays_until_another_or_none_is_said(visit: Callable[..., Visit], served: tuple[Site, str]):
    page, site = (seen := visit()).page, served[0]

    def held() -> tuple[float | None, bool]:
        limits = site.desk.requests.limits("dg1", site.clock.now())
        return limits.max_kw, limits.expires_at is not None

    def change(max_kw: str, *, hours: str = "", forever: bool = False) -> None:
        form = page.locator("dialog section", has_text="Limits")
        form.locator(".grid input").first.fill(max_kw)
        form.locator("[name=reason]").fill("air filter")
        if hours:
            form.locator(".grid input").last.fill(hours)
        if forever:
            form.get_by_label("No end").check()
        pressed(page, "Change limits")
        pressed(page, "Confirm")
        expect(form.locator("[name=reason]")).to_have_value("")  # the form of what was saved
        expect(page.locator("dialog")).to_contain_text("Saved")

    sign_in(page)
    page.locator("#up .unit", has_text="dg1").click()
    expect(page.locator("dialog")).to_contain_text("For (empty: for good)")
    expect(page.get_by_label("No end")).to_have_count(0)
    change("500", hours="2")
    assert held() == (500.0, True)
    expect(page.locator("dialog")).to_contain_text("For (empty: the end stays)")
    change("450")
    assert held() == (450.0, True)
    change("440", forever=True)
    assert held() == (440.0, False)
    assert seen.faults == []


def test_a_black_start_is_offered_only_while_no_unit_holds_the_bus(visit: Callable[..., Visit], served: tuple[Site, str]):
    from ems.model import Status

    page = (seen := visit()).page
    sign_in(page)
    page.locator("#pills button", has_text="Mode").click()
    expect(page.locator("dialog").get_by_role("button", name="manual")).to_be_visible()
    expect(page.locator("dialog").get_by_role("button", name="Black start")).to_have_count(0)
    page.keyboard.press("Escape")
    served[0].shown.update(mode="start", formers=[])
    try:
        expect(page.locator("#pills")).to_contain_text("starting")
        page.locator("#pills button", has_text="Mode").click()
        page.locator("dialog [name=reason]").fill("the storm is over")
        page.locator("dialog [name=former]").select_option("inv1")
        pressed(page, "Black start")
        expect(page.locator("dialog .confirm")).to_contain_text("does nobody work on the lines?")
        assert served[0].desk.requests.newest(1, "mode") == []  # asked, not sent
        pressed(page, "Confirm")
        note = page.locator("dialog .said").first
        expect(note).to_contain_text("Waiting for the controller")
        sent = served[0].desk.requests.newest(1, "mode")[0]
        assert sent.body == {"mode": "black_start", "former": "inv1", "reason": "the storm is over"}
        served[0].settle(sent.id, Status.REJECTED, "the bus is not found dead by two measurements")
        expect(note).to_contain_text("Refused · the bus is not found dead by two measurements")
    finally:
        served[0].shown.clear()
    assert seen.faults == []


def test_a_wrong_password_and_a_lacking_role_are_said_in_words(visit: Callable[..., Visit]):
    page = visit().page
    page.locator("#who").click()
    page.locator("[name=username]").fill("olga")
    page.locator("[name=password]").fill("wrong wrong")
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("dialog .said")).to_have_text("User name or password is wrong.")
    page.keyboard.press("Escape")
    sign_in(page, "viki")
    page.locator("#pills button", has_text="Stage").click()
    expect(page.locator("dialog")).to_contain_text("This needs the role engineer.")


def test_it_works_by_keyboard(visit: Callable[..., Visit]):
    page = visit().page
    page.locator("#up .unit").first.focus()
    beat = page.locator("#times").text_content()
    expect(page.locator("#times")).not_to_have_text(str(beat))  # a redraw later the focus is where it was
    expect(page.locator("#up .unit").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()


def test_docs_work_without_the_internet(visit: Callable[..., Visit], served: tuple[Site, str]):
    seen = visit()
    seen.page.goto(f"{served[1]}/docs")
    expect(seen.page.get_by_text("PATCH /api/v1/limits/{asset}")).to_be_visible()
    assert all(url.startswith(served[1]) for url in seen.asked)
    assert seen.faults == []
