"""axe-core in a page of the tests: what it finds wrong there. The script comes from a package of the
registry, as it is, and nothing of it is shipped."""

from __future__ import annotations

from importlib.resources import files

from selenium.webdriver import Chrome

AXE = files("selenium_axe_python").joinpath("axe-core/axe.min.js").read_text(encoding="utf-8")
RUN = """
const done = arguments[arguments.length - 1];
const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
axe.run(document, { runOnly: tags, resultTypes: ["violations"] }).then(
  ({ violations }) => done(violations.map(({ id, help, nodes }) =>
    `${id}: ${help}: ` +
      nodes.map((node) => `${node.html.slice(0, 150)} ${node.failureSummary}`).join(" | "))),
  (error) => done([String(error)]),
);
"""


def violations(browser: Chrome) -> list[str]:
    """What axe-core finds in the page as it is shown now."""
    if not browser.execute_script("return Boolean(window.axe)"):
        browser.execute_script(AXE)
    found: list[str] = browser.execute_async_script(RUN)
    return found
