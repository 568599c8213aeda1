"""The demo campaign and its page, made once."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from report_demo import demo_record

from casemate.report import html

VOID = {"meta", "link", "img", "input", "br", "hr"}
OPTIONAL_SVG = {"path", "rect", "circle", "use"}


class Page(HTMLParser):
    """A strict reading of a page: every tag closed, every attribute kept."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements = []  # (tag, attributes, line)
        self.errors = []
        self.texts = {"style": [], "script": []}
        self.text = []
        self._open = []
        self.feed(text)
        self.close()
        self.errors += [f"<{tag}> is never closed" for tag in self._open]

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.errors.append(f"<{tag}> has an attribute twice: {names}")
        self.elements.append((tag, dict(attrs), self.getpos()[0]))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), self.getpos()[0]))
        if tag not in VOID | OPTIONAL_SVG:
            self.errors.append(f"<{tag}/> does not close itself in HTML")

    def handle_endtag(self, tag):
        if not self._open or self._open[-1] != tag:
            self.errors.append(f"</{tag}> at {self.getpos()} closes {self._open[-1:]}")
        else:
            self._open.pop()

    def handle_data(self, data):
        inside = self._open[-1] if self._open else ""
        self.texts[inside].append(data) if inside in self.texts else self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes, _ in self.elements if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).replace("\u00a0", " ").split())


@pytest.fixture(scope="session")
def record():
    return demo_record()


@pytest.fixture(scope="session")
def source(record):
    return html.page(record)


@pytest.fixture(scope="session")
def page(source):
    return Page(source)


@pytest.fixture(scope="session")
def read():
    return Page
