"""A page of a report as its elements."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = "median:<img src=x onerror=\"document.title='run'\"></script><script>document.title='run'</script>$\\frac"
NOISES = ("gaussian:0.05", "gaussian:0.1")
LIMIT = 12


class Page(HTMLParser):
    """The elements of a page, and the text of its table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[tuple[str, str | None]]]] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(("", dict(attrs).get("data-value")))
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._cell:
            text, value = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = (text + data, value)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def leaderboards(parsed: Page) -> list[list[list[tuple[str, str | None]]]]:
    return [table for table in parsed.tables if table and table[0][2][0].startswith("PSNR")]
