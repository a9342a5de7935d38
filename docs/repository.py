"""A hook of MkDocs: files of the repository that pages link to become pages of the site.

    [`examples/01_digits.py`](../examples/01_digits.py)     on a page in docs/

leads to `repository/examples/01_digits.py/` on the site, where the text of the file is. So the same
link works where the repository is read, and the site needs neither a copy nor an address of it.
Markdown files of the repository, such as CHANGELOG.md, become pages like any other.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
DOCS = Path(__file__).parent.name
FOLDER = "repository"
LANGUAGES = {".py": "python", ".json": "json", ".toml": "toml", ".txt": "text", ".yml": "yaml"}
OF_THE_NAV = ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md")
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each file that a page links to, and for what those link to."""
    open_pages = [file.src_uri for file in files.documentation_pages()]
    open_pages += [f"{FOLDER}/{path}" for path in OF_THE_NAV]
    added = set()
    while open_pages:
        uri = open_pages.pop()
        if uri.startswith(f"{FOLDER}/") and uri not in added:
            added.add(uri)
            files.append(File.generated(config, uri, content=_content(uri)))
        text = _source(uri).read_text() if _source(uri).suffix == ".md" else ""
        for match in LINK.finditer(FENCED.sub("", text)):
            target = _page(uri, match[1])
            if target is not None and target.startswith(f"{FOLDER}/") and target not in added:
                open_pages.append(target)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let each link to a file of the repository lead to its page."""
    uri = page.file.src_uri

    def relinked(match: re.Match[str]) -> str:
        target = _page(uri, match[1])
        if target is None:
            return match[0]
        return posixpath.relpath(target, posixpath.dirname(uri)) + (match[2] or "")

    parts = re.split(f"({FENCED.pattern})", markdown, flags=FENCED.flags)
    return "".join(part if part.startswith("```") else LINK.sub(relinked, part) for part in parts)


def _source(uri: str) -> Path:
    """The file of the repository that a page is made of."""
    if uri.startswith(f"{FOLDER}/"):
        path = uri.removeprefix(f"{FOLDER}/")
        return ROOT / (path if (ROOT / path).is_file() else path.removesuffix(".md"))
    return ROOT / DOCS / uri


def _page(uri: str, link: str) -> str | None:
    """The page that a link on the page `uri` leads to; None if it is not a file."""
    folder = _source(uri).parent.relative_to(ROOT).as_posix()
    path = posixpath.normpath(posixpath.join(folder, link))
    if path.startswith("../") or not (ROOT / path).is_file():
        return None
    if path.startswith(f"{DOCS}/") and not path.endswith(".py"):
        return path.removeprefix(f"{DOCS}/")
    return f"{FOLDER}/{path if path.endswith('.md') else path + '.md'}"


def _content(uri: str) -> str:
    source = _source(uri)
    if source.suffix == ".md":
        return source.read_text()
    name = source.relative_to(ROOT).as_posix()
    language = LANGUAGES.get(source.suffix, "text")
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {name.replace('_', chr(92) + '_')}\n\n"
    return f"{head}``````{language}\n{source.read_text()}``````\n"
