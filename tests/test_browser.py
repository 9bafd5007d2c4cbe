"""Tests of bsglib.pages.report's pages in a browser: headless Chromium, spoken to over DevTools.

Every published page, and of sample_reports the index and a page with interactive figures.
"""

import base64
import io
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import time
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import websocket
from PIL import Image

from bsglib.figures import surface3d
from bsglib.pages import index, themes
from bsglib.project import ROOT

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
browser = pytest.mark.skipif(not BROWSER, reason=f"none of {', '.join(NAMES)} is here")
pytestmark = [browser, pytest.mark.slow]
FLAGS = """--headless --no-sandbox --disable-gpu --enable-unsafe-swiftshader --disable-quic
    --no-first-run --disable-background-networking --disable-component-update --disable-sync
    --hide-scrollbars --remote-debugging-port=0 --remote-allow-origins=*""".split()
SAMPLES = ["sample/index.html", "sample/laptop/interactive.html"]
PAGES = [ROOT / "reports" / "index.html"]
FOLDERS = [ROOT / "reports" / profile for profile in index.PUBLISHED_PROFILES]
PAGES += sorted(page for folder in FOLDERS for page in folder.glob("*.html"))
PAGES = [page.relative_to(ROOT / "reports").as_posix() for page in PAGES] + SAMPLES
INDEXES = [page for page in PAGES if page.endswith("index.html")]
KEYS = {"Enter": ("Enter", 13, "\r"), " ": ("Space", 32, " "), "Tab": ("Tab", 9, "")}
KEYS |= {"ArrowLeft": ("ArrowLeft", 37, ""), "ArrowUp": ("ArrowUp", 38, "")}
KEYS |= {"ArrowRight": ("ArrowRight", 39, ""), "ArrowDown": ("ArrowDown", 40, "")}
KEYS |= {"0": ("Digit0", 48, "0"), "+": ("Equal", 187, "+"), "-": ("Minus", 189, "-")}
# How fast plotly's script could be, on a machine whose graphics are computed by the processor.
ADVICE = re.compile("willReadFrequently|GPU stall due to ReadPixels|Driver Message.*Performance")
THEMES = pytest.mark.parametrize("theme", ["light", "dark"])


def only(pages):
    """Run a test on some of the pages alone."""
    return pytest.mark.parametrize("page", pages, indirect=True, scope="module")


# ---------------------------------------------------------------- the browser


class Tab:
    """The browser's one page, and the events that it reports."""

    def __init__(self, socket):
        self.socket, self.numbers, self.events, self.session = socket, itertools.count(1), [], {}
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": session["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)

    def send(self, method, **parameters):
        """Return the browser's answer to a command."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters} | self.session
        self.socket.send(json.dumps(message))
        while (answer := self.receive()).get("id") != number:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def receive(self):
        message = json.loads(self.socket.recv())
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message

    def open(self, page):
        """Load a page without a network, and wait until it is drawn."""
        network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.send("Network.emulateNetworkConditions", offline=True, **network)
        self.send("Page.navigate", url="about:blank")
        self.look()
        self.events.clear()
        assert "errorText" not in self.send("Page.navigate", url=page.as_uri())
        while "Page.loadEventFired" not in (name for name, _ in self.events):
            self.receive()
        self.settle()

    def settle(self):
        """Wait until fonts and interactive figures are there, and two frames are painted."""
        self.run(
            """(async () => {
            const frame = () => new Promise(requestAnimationFrame);
            await document.fonts.ready;
            const fits = e => e.querySelector("svg") && e.scrollWidth <= e.clientWidth;
            for (const plot of document.querySelectorAll(".plotly-figure .plot"))
              for (let i = 0; i < 300 && !fits(plot); i++) await frame();
            await frame(); await frame(); })()"""
        )

    def wait(self, condition):
        """Wait until a JavaScript expression is true."""
        self.run(
            f"""(async () => {{
            const end = performance.now() + 100000;
            while (!({condition})) {{
              if (performance.now() > end) throw Error({json.dumps(f"never: {condition}")});
              await new Promise(requestAnimationFrame);
            }} }})()"""
        )

    def look(self, theme="light", *, media="screen", width=1280, height=900):
        """Show the page in a theme, a medium, and a window; below 600 pixels, a phone's."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)
        window = {"width": width, "height": height, "mobile": width < 600, "deviceScaleFactor": 1}
        self.send("Emulation.setDeviceMetricsOverride", **window)

    def run(self, script):
        """Return the value of a JavaScript expression in the page."""
        options = {"returnByValue": True, "awaitPromise": True}
        answer = self.send("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key):
        """Press and release a key."""
        code, number, text = KEYS[key]
        options = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **options)
        self.send("Input.dispatchKeyEvent", type="keyUp", **options)

    def picture(self, box):
        """Return what is painted in a box of the page, at half its size."""
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True), scale=0.5)
        options = {"captureBeyondViewport": True, "optimizeForSpeed": True}
        shot = self.send("Page.captureScreenshot", clip=clip, **options)
        return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder}"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    log = (folder / "log").open("wb")
    process = subprocess.Popen(command, stderr=log, start_new_session=True, **quiet)
    socket = None
    try:
        port, deadline = folder / "DevToolsActivePort", time.monotonic() + 60
        while not (port.exists() and len(port.read_text().split()) == 2):
            assert process.poll() is None and time.monotonic() < deadline, (
                f"{BROWSER} does not start: {(folder / 'log').read_text(errors='replace')}"
            )
            time.sleep(0.05)
        number, path = port.read_text().split()
        address = f"ws://127.0.0.1:{number}{path}"
        options = {"timeout": 120, "http_no_proxy": ["127.0.0.1"], "skip_utf8_validation": True}
        socket = websocket.create_connection(address, **options)
        yield Tab(socket)
    finally:
        try:
            if socket is not None:  # lets it end its processes itself
                socket.send(json.dumps({"id": 0, "method": "Browser.close"}))
                process.wait(10)
        except (OSError, websocket.WebSocketException, subprocess.TimeoutExpired):
            pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", params=PAGES)
def page(request, reports):
    folder, _, name = request.param.partition("/")
    return reports / name if folder == "sample" else ROOT / "reports" / request.param


@pytest.fixture(scope="module")
def loaded(tab, page):
    """Return the tab with the page in it, and what was reported while it came."""
    tab.look()
    tab.open(page)
    return tab, list(tab.events)


@pytest.fixture
def shown(loaded):
    """Return the tab with the page in it, as it looks in a wide window."""
    tab, _ = loaded
    tab.look()
    yield tab
    tab.look()


# ---------------------------------------------------------------- quiet, and without a network


def complaints(events):
    """Return what should not be reported: problems, and whatever comes from elsewhere."""
    found = []
    for name, event in events:
        if name == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            found.append([each.get("value", each.get("description")) for each in event["args"]])
        elif name == "Runtime.exceptionThrown":
            found.append(event["exceptionDetails"])
        elif name == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            text = event["entry"]["text"]
            found += [] if ADVICE.search(text) else [text]
        elif name == "Network.loadingFailed":
            found.append(event["errorText"])
        elif name == "Network.requestWillBeSent":
            url = event["request"]["url"]
            found += [] if url.startswith(("file:", "data:", "blob:")) else [url]
        elif name == "Network.webSocketCreated":
            found.append(event["url"])
    return found


def test_the_page_is_quiet_and_fetches_nothing(loaded, page):
    _, events = loaded
    requests = [e["request"]["url"] for name, e in events if name == "Network.requestWillBeSent"]
    assert page.as_uri() in requests
    assert complaints(events) == []


def test_the_checks_see_what_is_wrong(tab, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<img src='http://127.0.0.1:9/x.png'><script>console.warn('careful'); throw 1</script>"
    )
    tab.open(bad)
    text = str(complaints(tab.events))
    assert all(each in text for each in ("127.0.0.1:9", "careful", "Uncaught"))


# ---------------------------------------------------------------- seen, in light and in dark

# How an element's colour stands out from what is behind it: contrast(colour, background, opacity).
COLOURS = """
  const context = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const known = new Map();
  const pixel = colour => {
    if (!known.has(colour)) {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
      known.set(colour, [r, g, b, a / 255]);
    }
    return known.get(colour);
  };
  const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const over = (top, below, alpha) => below.map((c, i) => alpha * top[i] + (1 - alpha) * c);
  const contrast = (top, below, alpha) => {
    const levels = [luminance(over(top, below, alpha)), luminance(below)].sort((a, b) => b - a);
    return (levels[0] + .05) / (levels[1] + .05);
  };
  const opacity = element => {
    let product = 1;
    for (let e = element; e instanceof Element; e = e.parentElement)
      product *= getComputedStyle(e).opacity;
    return product;
  };
  const background = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = pixel(getComputedStyle(e).backgroundColor);
      if (colour[3] == 1) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
"""
# Every piece of text outside figures, with its contrast.
TEXTS = f"""(() => {{ {COLOURS}
  const found = [];
  for (const e of document.querySelectorAll("body *")) {{
    const text = [...e.childNodes].filter(n => n.nodeType == 3).map(n => n.data).join("").trim();
    if (!text || e.closest("svg, script, style, .plotly-figure") || !e.checkVisibility()) continue;
    const alpha = opacity(e), colour = pixel(getComputedStyle(e).color);
    if (alpha) found.push([contrast(colour, background(e), alpha * colour[3]), text.slice(0, 60)]);
  }}
  return found; }})()"""
# Every mark in every drawing: what it is, contrast, opacity, luminance, share of the drawing.
MARKS = f"""(() => {{ {COLOURS}
  const found = [];
  for (const svg of document.querySelectorAll(".canvas svg, .thumbnail svg")) {{
    const page = background(svg), size = svg.getBoundingClientRect(), painted = [];
    const covers = (shape, x, y) => shape.isPointInFill &&  // a point of the screen
      shape.isPointInFill(new DOMPoint(x, y).matrixTransform(shape.getScreenCTM().inverse()));
    for (const e of svg.querySelectorAll("text, use, path, rect, circle, line, polygon")) {{
      if (e.closest("defs, clipPath") || (e.tagName == "text" && !e.textContent.trim())) continue;
      const style = getComputedStyle(e), box = e.getBoundingClientRect(), all = opacity(e);
      const spots = places => places.map(([i, j]) =>
        [box.x + i * box.width, box.y + j * box.height]);
      const centre = spots([[.5, .5], [.2, .5], [.8, .5], [.5, .2], [.5, .8]]);
      const corners = spots([[0, 0], [0, 1], [1, 0], [1, 1]]);
      const mark = ["text", "use"].includes(e.tagName);
      const below = painted.findLast(shape => mark
        ? centre.some(at => covers(shape, ...at)) : corners.every(at => covers(shape, ...at)));
      const behind = below ? pixel(getComputedStyle(below).fill).slice(0, 3) : page;
      if (e.closest('[id*="QuadContourSet"], [id*="QuadMesh"]')) {{
        if (style.fill != "none") painted.push(e);
        continue;  // part of a map: any colour may lie beside any other
      }}
      for (const kind of e.tagName == "text" ? ["fill"] : ["fill", "stroke"]) {{
        if (style[kind] == "none") continue;
        const colour = pixel(style[kind]), alpha = all * colour[3] * style[kind + "Opacity"];
        const share = kind == "fill" ? box.width * box.height / (size.width * size.height) : 0;
        found.push({{tag: e.tagName, kind, alpha, share, contrast: contrast(colour, behind, alpha),
          luminance: luminance(colour), drawn: svg.getAttribute("aria-label").slice(0, 40),
          what: e.tagName == "text" ? e.textContent : style[kind]}});
        if (kind == "fill" && alpha > .95) painted.push(e);
      }}
    }}
  }}
  return found; }})()"""
BOXES = """[...document.querySelectorAll(".canvas, .thumbnail, .plotly-figure")].map(e => {
  const box = e.getBoundingClientRect();
  const interactive = e.className == "plotly-figure";
  return [interactive, [box.x + scrollX, box.y + scrollY, box.width, box.height]]; })"""


# The strokes in the colour of a batch size: what the drawing says, and what is seen.
STROKES = f"""(() => {{ {COLOURS}
  const said = /stroke: *var\\(--b[-\\w]+, *(#\\w{{6}})\\)/, found = new Map();
  for (const e of document.querySelectorAll("svg [style*='--b']")) {{
    const colour = e.getAttribute("style").match(said)?.[1];
    if (colour) found.set(colour, pixel(getComputedStyle(e).stroke).slice(0, 3));
  }}
  return [...found]; }})()"""


@THEMES
def test_batch_sizes_have_their_colour_lifted_in_the_dark(shown, theme):
    shown.look(theme)
    strokes = shown.run(STROKES)
    partly = shown.run("/[/](gpu|confirm)[/]/.test(location.pathname)")  # few sizes there yet
    assert partly or len(strokes) > 2
    for colour, seen in strokes:
        wanted = colour if theme == "light" else themes.lifted(colour)
        assert seen == list(bytes.fromhex(wanted[1:])), colour


@THEMES
def test_drawings_stand_out_from_the_page(shown, theme):
    shown.look(theme)
    marks = shown.run(MARKS)
    texts = [mark for mark in marks if mark["tag"] == "text"]
    assert len(texts) > 20
    assert [mark for mark in texts if mark["contrast"] < 4.5] == []
    # The scale of the batch sizes begins light: its lines are wide, and labelled at their ends.
    least = {"light": 1.7, "dark": 3}[theme]
    lines = [mark for mark in marks if mark["kind"] == "stroke" and mark["alpha"] > 0.95]
    assert [mark for mark in lines if mark["contrast"] < least] == []
    if theme == "dark":
        light = [m for m in marks if m["luminance"] > 0.5 and m["alpha"] > 0.5 and m["share"] > 0.1]
        assert light == []


@THEMES
def test_figures_are_painted_on_the_page_itself(shown, theme):
    shown.look(theme)
    shown.settle()
    page = tuple(
        map(int, re.findall(r"\d+", shown.run("getComputedStyle(document.body).backgroundColor")))
    )
    boxes = shown.run(BOXES)
    assert boxes and all(min(box[2:]) > 100 for _, box in boxes)
    first = [box for interactive, box in boxes if not interactive][:1]  # what is the same in all
    for box in first + [box for interactive, box in boxes if interactive]:
        picture = shown.picture(box)
        colours = picture.getcolors(picture.width * picture.height)
        commonest, others = max(colours)[1], sum(n for n, colour in colours if colour != page)
        assert commonest == page, box
        assert others > 0.005 * picture.width * picture.height, f"nothing is seen in {box}"


# ---------------------------------------------------------------- on a phone, on paper


def test_nothing_scrolls_sideways_on_a_phone(shown, width=375):
    shown.look(width=width, height=700)
    shown.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    shown.settle()
    scrolled = """({page: document.scrollingElement.scrollWidth, window: innerWidth,
      beyond: [...document.querySelectorAll("body *")].filter(e => !e.closest("svg, .skip")
        && e.getBoundingClientRect().right > innerWidth + 1
        && !e.parentElement.closest(".table, .canvas, pre, math, nav, .plotly-figure"))
        .map(e => e.outerHTML.slice(0, 80)),
      tables: [...document.querySelectorAll("table")].filter(e => e.checkVisibility()).map(e => {
        const box = e.closest(".table");
        return [box.getBoundingClientRect().right <= innerWidth, getComputedStyle(box).overflowX];
      })})"""
    found = shown.run(scrolled)
    shown.run("document.querySelectorAll('details').forEach(e => e.open = false)")
    assert found["page"] <= width and found["window"] == width
    assert found["beyond"] == []
    assert all(inside and overflow == "auto" for inside, overflow in found["tables"])


# ---------------------------------------------------------------- structure, links, keyboard


def test_the_page_says_what_it_is(shown, page):
    found = shown.run(
        """({
        levels: [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map(e => +e.tagName[1]),
        ids: [...document.querySelectorAll("[id]")]  // but plotly's, which repeat in two scenes
             .filter(e => !e.closest(".plotly-figure")).map(e => e.id)})"""
    )
    levels = found["levels"]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels)), levels
    assert len(found["ids"]) == len(set(found["ids"]))
    assert page.stat().st_size < 2_000_000


# What axe-core, the rules of Deque Systems, finds wrong for those who use a page otherwise.
AXE = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
VIOLATIONS = """axe.run(document, {resultTypes: ["violations"]}).then(found => found.violations
  .filter(each => ["serious", "critical"].includes(each.impact))
  .flatMap(each => each.nodes.map(node => [each.id, node.html.slice(0, 120)])))"""


@THEMES
def test_axe_finds_nothing_serious(shown, theme):
    shown.look(theme)
    shown.run(f"void (window.axe || (() => {{ {AXE} }})())")
    shown.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    found = shown.run(VIOLATIONS)
    shown.run("document.querySelectorAll('details').forEach(e => e.open = false)")
    assert found == []


def test_axe_sees_what_is_wrong(tab, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<p style='color: #ccc; background: #fff'>faint</p><img src='data:,'>")
    tab.open(bad)
    tab.run(AXE)
    assert {"color-contrast", "image-alt", "html-has-lang"} <= {
        rule for rule, _ in tab.run(VIOLATIONS)
    }


def test_every_link_leads_somewhere(shown, page):
    links = {urldefrag(link) for link in shown.run("[...document.links].map(e => e.href)")}
    assert {Path(unquote(urlsplit(url).path)).suffix for url, _ in links} >= {".html"}
    anchors = {}
    for url, fragment in links:
        assert url.startswith("file:"), url
        path = Path(unquote(urlsplit(url).path))
        assert path.is_file(), path
        if fragment:
            if path not in anchors:
                anchors[path] = set(re.findall(r'\bid="([^"]+)"', path.read_text("utf-8")))
            assert unquote(fragment) in anchors[path], f"{path} has no #{fragment}"
    if page.name != "index.html":
        suffixes = {Path(urlsplit(url).path).suffix for url, _ in links}
        assert suffixes >= {".svg", ".csv"}
        contents = "[...document.querySelectorAll('nav.toc a')].map(e => e.hash)"
        assert len(shown.run(contents)) >= 2


# What a click on a drawing's PNG saves: its name, its size, and the colours in it.
SAVED = """(async button => {
  const click = HTMLAnchorElement.prototype.click, figure = button.closest("figure");
  const link = new Promise(done => HTMLAnchorElement.prototype.click = function () { done(this); });
  button.click();
  const {download, href} = await link;
  HTMLAnchorElement.prototype.click = click;
  const bytes = new Uint8Array(await (await fetch(href)).arrayBuffer());
  const width = parseFloat(figure.querySelector("svg").getAttribute("width")); // in points
  return [figure.id, download, width, btoa([...bytes].map(b => String.fromCharCode(b)).join(""))];
})(document.querySelectorAll(".files button")[%d])"""


@only([page for page in PAGES if page not in INDEXES])
def test_a_drawing_is_saved_as_a_png_in_the_light_theme_on_white(shown, page):
    drawn = shown.run("document.querySelectorAll('figure.drawing .canvas > svg').length")
    assert shown.run("document.querySelectorAll('.files button').length") == drawn > 0
    saved = []
    for theme in ("light", "dark"):
        shown.look(theme)
        figure, name, width, content = shown.run(SAVED % (drawn - 1))
        assert name == f"{figure}.png"
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        assert picture.format == "PNG"
        saved.append(picture.convert("RGB"))
    one, other = saved
    assert one.tobytes() == other.tobytes()
    assert abs(one.width - 3 * width * 96 / 72) <= 3
    colours = {colour for n, colour in one.getcolors(one.width * one.height) if n > 20}
    assert one.getpixel((0, 0)) == (255, 255, 255)
    assert (0x1F, 0x23, 0x28) in colours, "ink"
    assert len(colours) > 2


def test_code_is_folded_and_opens_by_keyboard(shown, page):
    states = "[...document.querySelectorAll('main details')].map(e => e.open)"
    folded = shown.run(states)
    assert not any(folded)
    assert bool(folded) == (page.name != "index.html"), "an index has no code"
    focus = "document.querySelectorAll('details.code summary')[{}].focus()"
    for number in range(len(folded[:2])):
        shown.run(focus.format(number))
        shown.press("Enter")
        assert shown.run(states)[number] is True
        assert shown.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        shown.press(" ")
        assert not any(shown.run(states))


def test_the_first_key_skips_to_the_text(shown):
    shown.run("document.activeElement.blur(), scrollTo(0, 0), getSelection().empty()")
    shown.run("document.body.tabIndex = -1, document.body.focus(), document.body.blur()")
    shown.press("Tab")
    skip = """(e => [e.className, e.getBoundingClientRect().left >= 0, e.hash])
        (document.activeElement)"""
    name, visible, target = shown.run(skip)
    assert name == "skip" and visible
    shown.press("Enter")
    assert shown.run("location.hash") == target
    assert shown.run(f"!!document.querySelector('{target}')")


# ---------------------------------------------------------------- an index's filters

FOUND = """[...document.querySelectorAll(".claims .found")].filter(e => e.checkVisibility())
  .map(e => [e.closest("tbody").querySelector("th").textContent, ...e.className.split(" ")])"""
EMPTY = """[...document.querySelectorAll(".claims tr.claim")].filter(e => e.checkVisibility()
  && ![...e.querySelectorAll(".found")].some(e => e.checkVisibility())).length"""


@only(INDEXES)
def test_filters_leave_the_verdicts_that_match_all_of_them(shown):
    verdicts = shown.run(FOUND)
    inputs = {
        name: f"document.querySelectorAll('fieldset [name={name}]')"
        for name in ("study", "verdict", "evidence")
    }
    numbers = {name: range(shown.run(f"{each}.length") or 1) for name, each in inputs.items()}
    seen = set()
    for chosen in itertools.product(*numbers.values()):
        wanted = set()
        for (name, each), number in zip(inputs.items(), chosen, strict=True):
            click = (
                f"(e => e ? (e.click(), e.labels[0].innerText.trim()) : 'all')({each}[{number}])"
            )
            label = shown.run(click)
            prefix = "" if name == "study" else "is-"
            wanted |= (
                set() if label == "all" else {prefix + label.replace(" ", "-" if prefix else " ")}
            )
        found = shown.run(FOUND)
        assert found == [each for each in verdicts if wanted <= set(each)], wanted
        assert shown.run(EMPTY) == 0
        seen.add(len(found))
    for each in inputs.values():
        shown.run(f"{each}[0]?.click()")
    assert shown.run(FOUND) == verdicts, "the first shows all"
    words = {frozenset(each) for each in verdicts}
    assert len(verdicts) in seen and (len(seen) > 2 or len(words) < 3)


# ---------------------------------------------------------------- surfaces in space

PLOT = "document.querySelector('#figure-2-3d .plot')"
EYES = f"['scene', 'scene2'].map(key => {PLOT}.layout[key].camera.eye)"
FIRST = surface3d.CAMERA["eye"]


@pytest.fixture
def surfaces(shown):
    """Return the tab with the two scenes in sight, seen from where they are first seen."""
    shown.run(f"{PLOT}.scrollIntoView({{block: 'center'}}), {PLOT}.focus()")
    shown.press("0")
    shown.wait(f"{EYES}.every(eye => eye.x == {FIRST['x']} && eye.y == {FIRST['y']})")
    return shown


def polar(eye):
    """Return an eye's angle around, angle up, and distance."""
    x, y, z = (eye[axis] for axis in "xyz")
    return math.atan2(y, x), math.atan2(z, math.hypot(x, y)), math.hypot(x, y, z)


STEP = math.pi / 24
TURNS = {"ArrowLeft": (-STEP, 0, 1), "ArrowRight": (STEP, 0, 1), "ArrowUp": (0, STEP, 1)}
TURNS |= {"ArrowDown": (0, -STEP, 1), "+": (0, 0, 0.9), "-": (0, 0, 1 / 0.9)}


@only(SAMPLES[1:])
def test_keys_turn_both_surfaces_and_0_returns(surfaces):
    around, up, distance = polar(FIRST)
    for key in ("ArrowLeft", "ArrowUp", "+", "ArrowDown", "ArrowRight", "-", "ArrowLeft"):
        surfaces.press(key)
        turn = TURNS[key]
        around, up, distance = around + turn[0], up + turn[1], distance * turn[2]
        wanted = pytest.approx((around, up, distance))
        assert [polar(eye) for eye in surfaces.run(EYES)] == [wanted, wanted], key
    surfaces.press("0")
    assert surfaces.run(EYES) == [FIRST, FIRST]


@only(SAMPLES[1:])
def test_no_button_sends_a_figure_away(shown):
    titles = shown.run("[...document.querySelectorAll('.modebar-btn')].map(e => e.dataset.title)")
    assert any("Download" in title for title in titles)
    assert [each for each in titles if re.search("share|cloud|edit|send", each, re.I)] == []
