"""Markdown as the page shows it: made by markdown-it and Pygments, then sanitised by nh3.

What a model writes is never trusted: markup in its text is shown as text, and what the renderer makes of
the rest passes a short list of harmless tags, so that a fault in one library alone lets nothing through.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

HIGHLIGHTED_LENGTH = 8_000
"""Characters. Lexers are regular expressions: longer code stays plain, so that none can hold a thread."""
LANGUAGES = {
    "Bash",
    "C",
    "C#",
    "C++",
    "CSS",
    "Diff",
    "Docker",
    "Go",
    "HTML",
    "Haskell",
    "INI",
    "JSON",
    "Java",
}
LANGUAGES |= {
    "JavaScript",
    "Kotlin",
    "Lua",
    "Makefile",
    "PHP",
    "Perl",
    "PowerShell",
    "Python",
    "Ruby",
    "Rust",
}
LANGUAGES |= {"S", "SQL", "Scala", "Swift", "TOML", "TypeScript", "XML", "YAML"}
"""Lexers by their name, S is R's: those that were tried with hostile text. A model chooses the language, and
whoever computes it chooses the model's words; one of the hundreds of others takes hours for a line of
backslashes, and all threads wait for a regular expression."""
LONG_BLANK = re.compile(r"\s{200}")
"""What many of these take the square of its length to see."""
DEEPEST_HEADING = 6
LINE_ENDS = re.compile(r"\r\n?|\n")
TAGS = {"p", "br", "hr", "strong", "em", "s", "code", "pre", "span", "a", "blockquote"}
TAGS |= {"ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "h3", "h4", "h5", "h6"}
ATTRIBUTES = {
    "*": set[str](),
    "a": {"href", "target"},
    "ol": {"start"},
    "pre": {"data-language"},
    "span": {"class"},
}


class Renderer(RendererHTML):
    """The page has headings of its own above an answer, so an answer's begin at the third level."""

    def heading_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return f"<h{_level(tokens[index])}>"

    def heading_close(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return f"</h{_level(tokens[index])}>\n"

    def link_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        tokens[index].attrSet("target", "_blank")
        return self.renderToken(tokens, index, options, env)

    def fence(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        token = tokens[index]
        words = token.info.split()
        return _code(token.content, words[0].lower() if words else "")

    def code_block(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return _code(tokens[index].content, "")


_MARKDOWN = (
    # Pictures would be fetched from elsewhere: they stay words. Deep nesting costs time and shows nothing.
    MarkdownIt("commonmark", {"html": False, "maxNesting": 20}, renderer_cls=Renderer)
    .enable(["table", "strikethrough"])
    .disable("image")
)


@lru_cache(maxsize=256)
def render(text: str) -> str:
    """Harmless HTML of ``text``."""
    made = nh3.clean(
        _MARKDOWN.render(text),
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
    )
    return made.strip()


def settled(text: str) -> int:
    """How many characters of a growing text are whole blocks, which nothing that follows can change."""
    starts = [token.map[0] for token in _MARKDOWN.parse(text) if token.level == 0 and token.map]
    if len(starts) < 2:
        return 0
    return [0, *(end.end() for end in LINE_ENDS.finditer(text))][starts[-1]]


def _level(token: Token) -> int:
    return min(int(token.tag[1]) + 2, DEEPEST_HEADING)


def _code(code: str, language: str) -> str:
    return f'<pre data-language="{escape(language[:30])}"><code>{_coloured(code, language)}</code></pre>\n'


def _coloured(code: str, language: str) -> str:
    lexer = _lexer(language)
    if lexer is None or len(code) > HIGHLIGHTED_LENGTH or LONG_BLANK.search(code):
        return escape(code)
    made: str = highlight(code, lexer, HtmlFormatter(nowrap=True))
    return made


def _lexer(language: str) -> Lexer | None:
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return None
    return lexer if lexer.name in LANGUAGES else None
