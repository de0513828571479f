"""What the pages lead to is there: files, and headings in them."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("docs/**/*.md"))
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")


def test_every_link_leads_somewhere() -> None:
    links = list(_links())
    assert len(links) > len(PAGES)
    assert not [f"{page}: {link}" for page, link, found in links if not found]


def _links() -> Iterator[tuple[str, str, bool]]:
    """Yields the page, the link, and whether it leads somewhere."""
    for page in PAGES:
        for match in LINK.finditer(page.read_text("utf-8")):
            path, heading = match.groups()
            target = (page.parent / path).resolve() if path else page
            found = target.exists() and (not heading or heading in _headings(target))
            yield str(page.relative_to(ROOT)), match[0], found


@cache
def _headings(page: Path) -> frozenset[str]:
    """Returns a page's headings as links name them: small, hyphens for spaces, no marks."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return frozenset(
        re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)", text, flags=re.MULTILINE)
    )
