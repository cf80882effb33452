"""The map page in a real Chromium, built from web/ and served with the archives of this folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from colour_world import COLOURS, ColourWords
from PIL import Image

from geoglot.server.app import create_app
from geoglot.server.archives import ArchivePool
from geoglot.server.settings import Settings
from geoglot.server.webpage import PAGE, Basemap

WEB = Path(__file__).resolve().parents[2] / "web"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 90_000
"""The machine may be busy, and Chromium draws the map on its processor."""
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Visit:
    """One tab, and what it asked for and complained about."""

    page: Any
    base: str
    asked: list[str]
    errors: list[str]
    pictures: Path

    def go(self, address: str = "") -> None:
        self.page.goto(f"{self.base}page/{address}")
        self.until("document.querySelector('#language').options.length > 0")

    def until(self, expression: str) -> None:
        """Wait for JavaScript to be true; Playwright's own wait evaluates strings, which the page's policy forbids."""
        end = time.monotonic() + WAIT_MS / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, expression
            self.page.wait_for_timeout(100)

    def ask(self, text: str) -> None:
        self.page.fill("#q", text)
        self.page.press("#q", "Enter")
        self.page.wait_for_selector("#cards .card, .nothing, .problem")

    def picture(self, name: str) -> None:
        self.page.wait_for_timeout(1500)  # tiles fade in
        self.page.screenshot(path=str(self.pictures / f"{name}.png"))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, built from its sources; what was built since they last changed is taken as it is."""
    if not shutil.which("node"):
        pytest.skip("Node is not installed, and the page is built with it")
    if not (WEB / "node_modules").is_dir():
        pytest.skip("web/node_modules is not there; run npm ci in web/")
    sources = [path for part in ("src", "public") for path in (WEB / part).rglob("*") if path.is_file()]
    newest = max(path.stat().st_mtime for path in [*sources, *WEB.glob("*.*")])
    if (PAGE / "index.html").is_file() and (PAGE / "index.html").stat().st_mtime > newest:
        return PAGE
    folder = tmp_path_factory.mktemp("page")
    command = ["node", "node_modules/vite/bin/vite.js", "build", "--emptyOutDir", "--outDir", str(folder)]
    subprocess.run(command, cwd=WEB, check=True, capture_output=True, timeout=300)
    return folder


@contextmanager
def running(served: Path, settings: Settings) -> Iterator[str]:
    """A server with the page; where it answers."""
    uvicorn = pytest.importorskip("uvicorn")
    pool = ArchivePool({"north": served / "north", "south": served / "south"}, lambda name: ColourWords())
    app = create_app(pool, settings)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="session")
def address(served: Path, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server with the usual settings answers."""
    with running(served, Settings(state=tmp_path_factory.mktemp("state"), page=built)) as url:
        yield url


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser: GEOGLOT_CHROMIUM, or the system's."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("GEOGLOT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("Chromium is not installed; name one in GEOGLOT_CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS, timeout=180_000)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept: GEOGLOT_SCREENSHOTS, or pytest's folder."""
    named = os.environ.get("GEOGLOT_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def visit(request: pytest.FixtureRequest, chromium: Any, address: str, pictures: Path) -> Iterator[Visit]:
    """A tab of its own; afterwards no request may have left the server, and nothing may have gone wrong in it."""
    options = {"viewport": {"width": 1360, "height": 860}, "locale": "en-GB", **getattr(request, "param", {})}
    context = chromium.new_context(reduced_motion="reduce", **options)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield Visit(page, address, asked, errors, pictures)
    context.close()
    assert asked
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []


def test_search_shows_ranked_cards_and_the_address_brings_them_back(visit: Visit) -> None:
    visit.go()
    visit.page.wait_for_selector(".welcome")
    visit.picture("welcome")
    visit.ask("water")
    status = visit.page.inner_text("#status")
    cards = visit.page.locator("#cards .card")
    assert cards.count() > 0
    assert str(cards.count()) in status
    told = visit.page.request.get(f"{visit.base}search?q=water&limit=24").json()["features"]
    assert cards.evaluate_all("all => all.map(one => one.dataset.id)") == [item["id"] for item in told]
    shares = [f"{round(item['properties']['geoglot:confidence'] * 100)}%" for item in told]
    assert [text.split()[-1] for text in cards.locator(".confidence").all_inner_texts()] == shares
    assert visit.page.locator("#cards img").first.evaluate("i => i.decode().then(() => i.naturalWidth)") > 0
    visit.picture("search")
    titles = cards.locator(".title").all_inner_texts()
    visit.page.goto(visit.page.url)
    visit.page.wait_for_selector("#cards .card")
    assert visit.page.input_value("#q") == "water"
    assert cards.locator(".title").all_inner_texts() == titles


def test_signed_terms_and_problems_come_through(visit: Visit) -> None:
    visit.go()
    visit.ask('"water" - "forest"')
    assert any("/search?" in url and "forest" in url for url in visit.asked)
    visit.page.fill("#q", "unicorn")
    visit.page.press("#q", "Enter")
    visit.page.wait_for_selector(".problem")
    assert "unicorn" in visit.page.inner_text(".problem")
    assert visit.page.locator("#cards .card").count() == 0


def test_filters_by_box_date_resolution_and_archive(visit: Visit) -> None:
    visit.go("?q=water")
    visit.page.wait_for_selector("#cards .card")
    visit.page.click("#filters summary")
    visit.page.fill("#until", "2019-12-31")
    visit.page.press("#until", "Tab")
    visit.until("location.search.includes('until=2019-12-31')")
    visit.until("document.querySelector('#status').textContent.match(/\\d/)")
    titles = set(visit.page.locator("#cards .title").all_inner_texts())
    assert all("coast" in title for title in titles)
    visit.page.click("#clear-filters")
    visit.until("!location.search.includes('until')")
    visit.page.wait_for_selector("#cards .card")
    visit.page.click("#draw")
    frame = visit.page.locator("#map canvas").bounding_box()
    x, y = frame["x"] + frame["width"] * 0.3, frame["y"] + frame["height"] * 0.3
    visit.page.mouse.move(x, y)
    visit.page.mouse.down()
    visit.page.mouse.move(x + 150, y + 120, steps=4)
    visit.page.mouse.up()
    visit.until("location.search.includes('bbox=')")
    west, south, east, north = (
        float(visit.page.input_value(f"#{edge}")) for edge in ("west", "south", "east", "north")
    )
    assert west < east
    assert south < north
    visit.page.wait_for_timeout(500)
    assert any("bbox=" in url and "/search?" in url for url in visit.asked)
    assert visit.page.inner_text("#filter-count") == "1"
    visit.picture("filters")


def test_a_click_shows_the_scene_in_full_resolution_and_more_like_it(visit: Visit) -> None:
    visit.go("?q=roof")
    visit.page.wait_for_selector("#cards .card")
    placed = visit.page.locator("#cards .card").first
    with visit.page.expect_response(lambda got: "/tiles/WebMercatorQuad/" in got.url and "/scenes/" in got.url) as tile:
        placed.click()
    assert tile.value.ok
    assert "image/png" in tile.value.headers["content-type"]
    visit.page.wait_for_selector("#detail h2")
    visit.picture("place")
    visit.page.click("#detail .primary")
    visit.page.wait_for_selector("#terms li")
    visit.page.wait_for_selector("#cards .card")
    assert "chip" in visit.page.url
    assert visit.page.input_value("#q") == ""
    visit.page.click("#terms .remove")
    visit.page.wait_for_selector(".welcome")


def test_a_job_shows_where_in_the_scene_and_its_files(visit: Visit) -> None:
    visit.go("?q=roof")
    visit.page.wait_for_selector("#cards .card")
    visit.page.locator("#cards .card").first.click()
    visit.page.wait_for_selector("#detail h2")
    with visit.page.expect_response(lambda got: "/jobs/" in got.url and "/tiles/" in got.url) as tile:
        visit.page.get_by_role("button", name="Where in the scene").click()
    assert tile.value.ok
    visit.page.wait_for_selector("#job a")
    assert "roof" in visit.page.inner_text("#job")
    visit.picture("where")
    with visit.page.expect_download() as download:
        visit.page.click("#job a[download='regions.geojson']")
    assert json.loads(Path(download.value.path()).read_text(encoding="utf-8"))["type"] == "FeatureCollection"
    visit.ask("water")
    assert not visit.page.is_visible("#job")


def test_the_heat_map_says_where(visit: Visit) -> None:
    visit.go("?q=water")
    visit.page.wait_for_selector("#cards .card")
    with visit.page.expect_response(lambda got: "/heat/tiles/" in got.url) as tile:
        visit.page.click("#heat")
    assert tile.value.ok
    assert visit.page.get_attribute("#heat", "aria-pressed") == "true"
    assert visit.page.is_visible("#legend")
    visit.picture("heat")
    visit.page.click("#heat")
    assert not visit.page.is_visible("#legend")


def test_a_dropped_picture_finds_places_like_it(visit: Visit, tmp_path: Path) -> None:
    picture = tmp_path / "red.png"
    Image.new("RGB", (64, 64), COLOURS["roof"]).save(picture)
    visit.go()
    script = """async (bytes) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(bytes)], 'red.png', {type: 'image/png'}));
      for (const kind of ['dragenter', 'dragover', 'drop']) {
        document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
        if (kind === 'dragenter') window.veiled = !document.querySelector('#drop').hidden;
      }
      return window.veiled;
    }"""
    assert visit.page.evaluate(script, list(picture.read_bytes())) is True
    visit.page.wait_for_selector("#cards .card")
    assert visit.page.locator("#terms img").evaluate("i => i.decode().then(() => i.naturalWidth)") == 64
    visit.picture("picture")
    visit.page.set_input_files("#file", str(picture))
    visit.page.wait_for_selector("#cards .card")
    assert visit.page.locator("#terms li").count() == 1


def test_a_pasted_picture_does_the_same(visit: Visit, tmp_path: Path) -> None:
    picture = tmp_path / "blue.png"
    Image.new("RGB", (64, 64), COLOURS["water"]).save(picture)
    visit.go()
    visit.page.wait_for_selector(".welcome")
    script = """(bytes) => {
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File([new Uint8Array(bytes)], 'shot.png', {type: 'image/png'}));
      const options = {clipboardData, bubbles: true, cancelable: true};
      document.querySelector('#q').dispatchEvent(new ClipboardEvent('paste', options));
    }"""
    visit.page.evaluate(script, list(picture.read_bytes()))
    visit.page.wait_for_selector("#cards .card")
    assert visit.page.locator("#terms li").count() == 1
    assert "coast" in visit.page.locator("#cards .title").first.inner_text()


def test_more_results_follow_without_repeats(visit: Visit) -> None:
    visit.go("?q=water")
    visit.page.wait_for_selector("#cards .card")
    cards = visit.page.locator("#cards .card")
    names = "all => all.map(one => one.dataset.id)"
    first = cards.evaluate_all(names)
    visit.page.click("#more")
    visit.until(f"document.querySelectorAll('#cards .card').length > {len(first)}")
    both = cards.evaluate_all(names)
    assert both[: len(first)] == first
    assert len(set(both)) == len(both)
    assert visit.page.evaluate("document.activeElement.dataset.id") == both[len(first)]
    ranks = [int(text) for text in cards.locator(".rank").all_inner_texts()]
    assert ranks == list(range(1, len(ranks) + 1))


def test_an_archive_without_calibration_shows_scores(visit: Visit) -> None:
    def uncalibrated(route: Any) -> None:
        answer = route.fetch()
        body = answer.json()
        body["geoglot:search"]["calibrated"] = False
        for item in body["features"]:
            item["properties"]["geoglot:confidence"] = None
        route.fulfill(response=answer, body=json.dumps(body))

    visit.go()
    visit.page.route("**/search?*", uncalibrated)
    visit.ask("water")
    card = visit.page.locator("#cards .card").first
    assert card.locator(".meter").count() == 0
    assert "%" not in card.inner_text()
    assert card.locator(".confidence").inner_text().startswith("Score ")
    assert "Not calibrated" in visit.page.inner_text("#note")
    visit.picture("uncalibrated")


TILE = "https://tiles.example.org/{z}/{x}/{y}.png?token=t"


def test_a_basemap_is_fetched_shown_and_credited(served: Path, built: Path, chromium: Any, tmp_path: Path) -> None:
    square = tmp_path / "square.png"
    Image.new("RGB", (256, 256), (120, 180, 120)).save(square)
    settings = Settings(state=tmp_path / "state", page=built, basemap=Basemap(TILE, "© Somebody"))
    with running(served, settings) as url:
        page = chromium.new_page()
        page.set_default_timeout(WAIT_MS)
        asked: list[str] = []
        page.on("request", lambda sent: asked.append(sent.url))
        free = {"Access-Control-Allow-Origin": "*"}
        page.route(re.compile("^https://"), lambda route: route.fulfill(path=str(square), headers=free))
        with page.expect_response(lambda got: got.url.startswith("https://tiles.example.org/")) as tile:
            page.goto(f"{url}page/")
        assert tile.value.url.endswith("?token=t")
        page.wait_for_selector("#credit:not([hidden])")
        assert page.inner_text("#credit") == "© Somebody"
        away = {sent.split("/")[2] for sent in asked if sent.startswith("http") and not sent.startswith(url)}
        assert away == {"tiles.example.org"}
        refused = "fetch('https://other.example/x').then(() => 'sent', () => 'refused')"
        assert page.evaluate(refused) == "refused"
        page.click("#basemap")
        assert not page.is_visible("#credit")
        page.close()


@pytest.mark.parametrize(
    "visit", [{"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}], indirect=True
)
def test_a_finger_draws_the_box(visit: Visit) -> None:
    visit.go("?q=water")
    visit.page.wait_for_selector("#cards .card")
    visit.page.tap("#filters summary")
    visit.page.tap("#draw")
    visit.page.wait_for_selector("#drawing:not([hidden])")
    frame = visit.page.locator("#map canvas").bounding_box()
    x, y = frame["x"] + frame["width"] * 0.3, frame["y"] + frame["height"] * 0.4
    touch = visit.page.context.new_cdp_session(visit.page)
    before = visit.page.evaluate("scrollY")
    steps = [("touchStart", 0)] + [("touchMove", step) for step in range(1, 6)] + [("touchEnd", -1)]
    for kind, step in steps:
        points = [{"x": x + 20 * step, "y": y + 15 * step}] if step >= 0 else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    visit.until("location.search.includes('bbox=')")
    assert visit.page.evaluate("scrollY") == before
    west, south, east, north = (
        float(visit.page.input_value(f"#{edge}")) for edge in ("west", "south", "east", "north")
    )
    assert west < east
    assert south < north


def test_nothing_matches_is_said_plainly(visit: Visit) -> None:
    visit.go()
    visit.page.route("**/search?*", _nothing)
    visit.ask("water")
    assert visit.page.inner_text("#status") == "Nothing matches"
    assert visit.page.locator("#cards .card").count() == 0
    visit.picture("nothing")
    visit.page.unroute("**/search?*")
    visit.page.click(".nothing button")
    visit.page.wait_for_selector("#cards .card")
    assert "misses=1" in visit.page.url


def _nothing(route: Any) -> None:
    """The server's own answer, as it is when even the best hit is unlikely; colours always match in this world."""
    answer = route.fetch()
    body = answer.json()
    body["features"], body["geoglot:search"]["nothing_matches"] = [], True
    route.fulfill(response=answer, body=json.dumps(body))


@pytest.mark.parametrize(
    "visit", [{"viewport": {"width": 390, "height": 844}, "has_touch": True, "device_scale_factor": 2}], indirect=True
)
def test_it_fits_a_phone(visit: Visit) -> None:
    visit.go("?q=water")
    visit.page.wait_for_selector("#cards .card")
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    small = """[...document.querySelectorAll('button, a.button, summary')].filter(e => e.offsetParent)
      .filter(e => e.getBoundingClientRect().height < 24).map(e => e.outerHTML)"""
    assert visit.page.evaluate(small) == []
    visit.picture("phone")
    visit.page.locator("#cards .card").first.click()
    visit.page.wait_for_selector("#detail h2")
    visit.picture("phone-place")
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_keyboard_alone_is_enough(visit: Visit) -> None:
    keys = visit.page.keyboard
    focus = "document.activeElement.className || document.activeElement.id || document.activeElement.tagName"
    visit.go()
    visit.page.wait_for_selector(".welcome")
    keys.press("Tab")
    assert visit.page.evaluate("document.activeElement.className") == "skip"
    keys.press("/")
    assert visit.page.evaluate("document.activeElement.id") == "q"
    keys.type("water")
    keys.press("Enter")
    visit.page.wait_for_selector("#cards .card")
    keys.press("Tab")
    assert visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    keys.press("ArrowDown")
    keys.press("ArrowDown")
    assert visit.page.evaluate(focus) == "card"
    chosen = visit.page.evaluate("document.activeElement.dataset.id")
    keys.press("Enter")
    visit.page.wait_for_selector("#detail h2")
    assert chosen in visit.page.url
    keys.press("h")
    assert visit.page.get_attribute("#heat", "aria-pressed") == "true"
    visit.picture("keyboard")
    keys.press("Escape")
    assert not visit.page.is_visible("#detail")
    assert visit.page.evaluate("document.activeElement.dataset.id") == chosen
    keys.press("m")
    visit.page.wait_for_selector("#terms li")
    keys.press("?")
    assert visit.page.is_visible("#keys")
    keys.press("Escape")
    assert not visit.page.is_visible("#keys")


@pytest.mark.parametrize("visit", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True)
def test_axe_finds_nothing_serious(visit: Visit) -> None:
    axe = (WEB / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    visit.go("?q=water&heat=1")
    visit.page.wait_for_selector("#cards .card")
    visit.page.click("#filters summary")
    visit.page.locator("#cards .card").first.click()
    visit.page.wait_for_selector("#detail h2")
    visit.page.evaluate(axe)
    found = visit.page.evaluate("axe.run().then(r => r.violations)")
    theme = visit.page.get_attribute("html", "data-theme")
    visit.picture(f"axe-{theme}")
    told = [f"{one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [], "\n".join(told)


def test_the_page_speaks_ten_languages(visit: Visit) -> None:
    visit.go("?q=water")
    visit.page.wait_for_selector("#cards .card")
    titles = []
    for code in ("en", "es", "fr", "de", "pt", "it", "nl", "ru", "zh", "ko"):
        visit.page.select_option("#language", code)
        visit.until(f"document.documentElement.lang === '{code}'")
        titles.append(visit.page.inner_text("#heat"))
    assert len(set(titles)) == 10
    visit.picture("korean")


def test_results_download_as_geojson(visit: Visit) -> None:
    visit.go("?q=water")
    visit.page.wait_for_selector("#cards .card")
    with visit.page.expect_download() as download:
        visit.page.click("#download")
    found = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert found["type"] == "FeatureCollection"
    assert len(found["features"]) >= visit.page.locator("#cards .card").count()


def test_the_page_asks_for_a_key(served: Path, built: Path, serve: Any) -> None:
    client = serve(page=built, api_keys=("secret",))
    assert client.get("/page/").status_code == 200
    assert "geoglot" in client.get("/page/").text
    assert client.get("/collections").status_code == 401
    assert client.get("/page/../collections").status_code in (401, 404)
    assert client.get("/page/%2e%2e/app.py").status_code == 404
    client.cookies.set("geoglot_key", "secret")
    assert client.get("/collections").status_code == 200


@pytest.mark.parametrize(
    ("name", "home", "says"),
    [
        ("onest", "@fontsource-variable/onest/LICENSE", "SIL OPEN FONT LICENSE"),
        ("literata", "@fontsource-variable/literata/LICENSE", "SIL OPEN FONT LICENSE"),
        ("maplibre-gl", "maplibre-gl/LICENSE.txt", "MapLibre contributors"),
    ],
)
def test_licences_of_what_the_page_brings_are_with_it(built: Path, name: str, home: str, says: str) -> None:
    text = (built / "licences" / f"{name}.txt").read_text(encoding="utf-8")
    assert says in text
    assert text == (WEB / "node_modules" / home).read_text(encoding="utf-8")


def test_every_language_has_every_word() -> None:
    files = sorted((WEB / "src" / "languages").glob("*.json"))
    words = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    assert len(words) == 10
    for code, said in words.items():
        assert list(said) == list(words["en"]), code
        assert all(said.values()), code
        for name, text in said.items():
            braces = {part.split("}")[0] for part in text.split("{")[1:]}
            assert braces == {part.split("}")[0] for part in words["en"][name].split("{")[1:]}, (code, name)
