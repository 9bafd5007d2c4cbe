"""Tests of bsglib.pages.report, bsglib.pages.themes and bsglib.pages.index."""

import base64
import gzip
import re
import sys
from html.parser import HTMLParser
from importlib.resources import files

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from sample_reports import STUDIES, verdicts

from bsglib.pages import index, report


@pytest.fixture(scope="module")
def page(reports):
    return (reports / "laptop" / "surlemont_sam.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """All elements of a page, and the text outside code."""

    def __init__(self, page):
        super().__init__()
        self.all, self.prose, self.inside = [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.all.append((tag, dict(attributes)))
        if tag in ("pre", "style", "script"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and tag == self.inside[-1]:
            self.inside.pop()

    def handle_data(self, data):
        self.prose += "" if self.inside else data

    def values(self, attribute):
        return [a[attribute] for _, a in self.all if attribute in a]


def test_nothing_is_fetched_and_every_link_leads_somewhere(reports):
    for path in (reports / "laptop").glob("*.html"):
        elements = Elements(path.read_text(encoding="utf-8"))
        links = elements.values("href") + elements.values("src") + elements.values("xlink:href")
        assert links
        ids = set(elements.values("id"))
        for link in links:
            assert not link.startswith(("http", "//")), link
            if link.startswith("#"):
                assert link[1:] in ids, link
            elif not link.startswith("data:"):
                assert (path.parent / link.split("#")[0]).exists(), link


def test_interactive_figures_share_one_script(reports):
    page = (reports / "laptop" / "interactive.html").read_text(encoding="utf-8")
    assert '<script src="../assets/plotly.js" defer>' in page
    assert r"<\/b>" in page
    assert "plotly.js" not in (reports / "laptop/surlemont_sam.html").read_text(encoding="utf-8")
    packed = (reports / "assets" / "plotly.js").read_text(encoding="utf-8")
    assert packed.startswith("/**\n* plotly.js v") and "MIT" in packed[:200]
    (content,) = re.findall(r'\("([\w+/=]+)"\);\n$', packed)
    script = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    assert gzip.decompress(base64.b64decode(content)) == script
    assert len(packed) < len(script) / 2


# ---------------------------------------------------------------- index, README


def test_index_shows_cards_claims_and_filters(reports):
    for folder, profiles in ((reports, ["gpu", "laptop"]), (reports / "laptop", ["laptop"])):
        page = (folder / "index.html").read_text(encoding="utf-8")
        elements = Elements(page)
        assert "Is it &lt;sharp&gt;?" in page and "no report yet" in page
        link = "laptop/surlemont_sam.html" if folder == reports else "surlemont_sam.html"
        assert f"{link}#claim-gap" in page and f"{link}#a-1" in page
        found = [a["class"] for _, a in elements.all if a.get("class", "").startswith("found")]
        same, exploratory = "found is-same is-{}", ["undecided", "not-testable"]
        of_gpu = [same.format("confirmatory")] * (folder == reports)
        last = "is-opposite is-confirmatory" if folder == reports else "is-not-run is-exploratory"
        assert found == [
            *of_gpu,
            same.format("exploratory"),
            *(f"found is-{word} is-exploratory" for word in exploratory),
            f"found {last}",
        ]
        text = " ".join(elements.prose.split())
        for profile in profiles:
            evidence = {"gpu": "confirmatory", "laptop": "exploratory"}[profile]
            assert f"3 claims of the sources, {evidence} ({profile})" in text
        assert "1 same: 1 toy 1 undecided: 1 toy 1 not testable" in text
        assert "n = 3" in page and "5.20 [4.21, 6.19]" in page
        assert ("<code>bsg compute x</code>" in page) == (folder != reports)


@pytest.mark.parametrize(("column", "word"), [("verdict", "good"), ("evidence", "weak")])
def test_an_unknown_word_names_file_value_and_words(tmp_path, column, word):
    rows = verdicts("laptop").rows.assign(evidence="exploratory")
    rows.assign(**{column: word}).to_csv(tmp_path / "verdicts.csv", index=False)
    with pytest.raises(ValueError, match=rf"verdicts.csv: {column} '{word}'; allowed: \w+, "):
        report.verdicts(tmp_path / "verdicts.csv")


def test_readme_table_goes_between_the_markers(reports, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- verdicts -->\nold\n<!-- /verdicts -->\nb\n", encoding="utf-8")
    table = index.primary_claims_table(reports, STUDIES, reports)
    for _ in range(2):
        index.update_marked(readme, "verdicts", table)
        text = readme.read_text(encoding="utf-8")
        assert text == f"a\n<!-- verdicts -->\n{table}\n<!-- /verdicts -->\nb\n"
    _, _, gap, ours, *_ = table.splitlines()
    statement, paper, *both = re.split(r" (?<!\\)\| ", gap)
    assert r"batch \| size." in statement and "points" in statement and paper == "7.1"
    assert re.match(r"\[same .*7\.05 \\\[.* full\]\(gpu/surlemont_sam.html#claim-gap\)", both[0])
    assert re.match(r"\[same .*5\.20 \\\[.*\]\(laptop/surlemont_sam.html#claim-gap\)", both[1])
    assert "| our question | [opposite" in ours and ours.endswith("| - |"), "not run on a laptop"
    assert "(profile gpu).** 1 same: 1 full; 2 not run." in table


def test_conclusions_hold_what_was_measured_and_say_where_a_verdict_has_changed(reports, tmp_path):
    text = tmp_path / "conclusions.md"
    for profile in ("laptop", "gpu"):
        (tmp_path / profile).symlink_to(reports / profile)
    links = '[](gap "same") [](sharp\n"same") [here](gpu/gap "opposite")'
    text.write_text(links, encoding="utf-8")
    pages = [
        report.link(reports / profile / "surlemont_sam.html", tmp_path)
        for profile in ("laptop", "gpu")
    ]
    assert index.conclusions(tmp_path, STUDIES, tmp_path) == (
        rf'[5.20 \[4.21, 6.19\]]({pages[0]}#claim-gap "same, exploratory, n = 3") '
        rf"[1.39 \[0.355, 5.44\] (now undecided)]({pages[0]}#claim-sharp "
        rf'"undecided, exploratory, n = 3") '
        rf'[here (now same)]({pages[1]}#claim-gap "same, confirmatory, n = 4")'
    )
    for gone in ('[](gone "undecided")', '[](confirm/gap "same")'):
        text.write_text(gone, encoding="utf-8")
        with pytest.raises(
            ValueError, match=r"conclusions.md: '\w+' is not a claim of a published"
        ):
            index.conclusions(tmp_path, STUDIES, tmp_path)


@pytest.mark.parametrize("text", ["", "<!-- verdicts -->", "<!-- /verdicts --><!-- verdicts -->"])
def test_readme_without_markers_is_refused_and_kept(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"README.md.*<!-- verdicts -->.*<!-- /verdicts -->"):
        index.update_marked(readme, "verdicts", "table")
    assert readme.read_text(encoding="utf-8") == text


# ---------------------------------------------------------------- running


def test_execute_keeps_what_ran_until_the_failure(tmp_path, monkeypatch):
    kernel = tmp_path / "kernels" / "python3" / "kernel.json"  # a user's, which would not start
    kernel.parent.mkdir(parents=True)
    kernel.write_text('{"argv": ["no-such-python"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    folder = tmp_path / "a {b} c"
    cells = [
        new_code_cell("word = 'old'", metadata={"tags": ["parameters"]}),
        new_code_cell("import os, sys; print(word, os.getcwd(), sys.executable)"),
        new_code_cell("assert word != 'wrong'"),
    ]
    folder.mkdir()
    nbformat.write(new_notebook(cells=cells), folder / "in.ipynb")
    output, failed = folder / "out.ipynb", folder / "out.failed.ipynb"

    with pytest.raises(papermill.PapermillExecutionError, match="AssertionError"):
        report.execute(folder / "in.ipynb", output, {"word": "wrong"})
    assert not output.exists()
    assert f"wrong {report.ROOT}" in failed.read_text(encoding="utf-8")

    assert report.execute(folder / "in.ipynb", output, {"word": "new"}) == output
    printed = nbformat.read(output, as_version=4).cells[2].outputs[0].text
    assert printed.split() == ["new", str(report.ROOT), sys.executable]
    assert sorted(p.name for p in folder.iterdir()) == ["in.ipynb", "out.ipynb"]


def test_a_users_ipython_configuration_changes_no_output(tmp_path, monkeypatch):
    profile, startup = tmp_path / "profile_default", tmp_path / "startup.py"
    (profile / "startup").mkdir(parents=True)
    show_all = "get_config().InteractiveShell.ast_node_interactivity = 'all'"
    (profile / "ipython_config.py").write_text(show_all)
    (profile / "startup" / "own.py").write_text("of_profile = 1")
    startup.write_text("of_python = 1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(startup))
    cell = new_code_cell("1\n'of_profile' in globals(), 'of_python' in globals()")
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "in.ipynb")
    output = nbformat.read(report.execute(tmp_path / "in.ipynb", tmp_path / "out.ipynb", {}), 4)
    assert [o.data["text/plain"] for o in output.cells[-1].outputs] == ["(False, False)"]
