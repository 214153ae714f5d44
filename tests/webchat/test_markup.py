from __future__ import annotations

import re
import time

import pytest

from webchat.markup import render, settled

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1))",
    "[a](JAVASCRIPT:alert(1))",
    "[a](data:text/html,<script>alert(1)</script>)",
    "[a](//evil.example/x)",
    "[a](/api/settings)",
    '[a](https://x.example "onclick=alert(1)")',
    "![a](https://evil.example/pixel.png)",
    "<https://x.example/?<script>>",
    '```"><script>alert(1)</script>\nx\n```',
    "```python onload=alert(1)\n</code></pre><script>alert(1)</script>\n```",
    "| <script>alert(1)</script> |\n|---|\n| <style>*{display:none}</style> |",
    "<svg/onload=alert(1)> <math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
]
TAG = re.compile(r"<([a-z0-9]+)([^>]*)>", re.IGNORECASE)
HARMLESS = {
    "href": r'https?://[^"]*',
    "target": "_blank",
    "rel": "noopener noreferrer nofollow",
    "start": r"\d+",
    "data-language": r"[^\"]{0,60}",
    "class": r"[a-z0-9 ]+",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_only_harmless_markup_comes_out(attack: str) -> None:
    """No tag but text, lists, tables, code and links to the web; no attribute that runs or loads anything."""
    for name, attributes in TAG.findall(render(attack)):
        assert name in {"p", "a", "pre", "code", "span", "table", "thead", "tbody", "tr", "th", "td"}
        for key, value in re.findall(r'([\w-]+)="([^"]*)"', attributes):
            assert re.fullmatch(HARMLESS[key], value), (key, value)


def test_text_and_code_say_what_was_written() -> None:
    """Markup in the text is shown as text; code keeps every character."""
    assert render("a < b & c > d <b>") == "<p>a &lt; b &amp; c &gt; d &lt;b&gt;</p>"
    shown = re.sub(r"<[^>]+>", "", render("```python\nif a < b: x = '&amp;'\n```"))
    assert shown == "if a &lt; b: x = '&amp;amp;'\n"


def test_headings_begin_below_those_of_the_page() -> None:
    """The outline of the page stays whole."""
    assert render("# a\n\n###### b") == "<h3>a</h3>\n<h6>b</h6>"


def test_code_is_coloured_where_its_language_is_known() -> None:
    """By its usual names. An unknown language, or one that only looks like one, is plain."""
    assert 'class="k"' in render("```python\ndef f(): pass\n```")
    for name in ("py", "js", "ts", "sh", "c++", "c#", "html", "json", "yml", "rust", "go", "sql"):
        assert "<span" in render(f"```{name}\nif x == 1: {{ y: 'a' }} <b>\n```"), name
    assert "<span" not in render("```klingon\ndef f(): pass\n```")


@pytest.mark.parametrize(
    "text", ["A b.\n\nC *d*.\n\n- x\n- y\n\n  z\n\n```py\na\n\nb\n```\n\nend\n", "a\r\n\r\nb\r\rc\n\nd"]
)
def test_settled_blocks_never_change(text: str) -> None:
    """However the text goes on: block by block it becomes what it is as a whole."""
    for end in range(len(text) + 1):
        cut = settled(text[:end])
        assert render(text[:cut] + "\n\n" + text[cut:]) == render(text)
    assert settled(text) > 0


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        "> " * 5_000,
        "*a " * 10_000,
        "- " * 5_000,
        "|a" * 10_000 + "\n" + "|-" * 10_000,
        '```cddl\n"' + "\\" * 38 + "\n```",
        "```java\n" + "\n" * 20_000 + "\n```",
        '```typescript\n"' + "a." * 3_900 + "\n```",
    ],
    ids=lambda text: text[:12],
)
def test_hostile_text_is_rendered_in_time(text: str) -> None:
    """Deep nesting, long lines and code that lexers choke on take moments."""
    begun = time.process_time()
    render(text)
    assert time.process_time() - begun < 5
