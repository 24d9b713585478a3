"""What axe-core finds on a page."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLORS = ["color-contrast"]
RUN = """async options => (await axe.run(options)).violations.flatMap(
    fault => fault.nodes.map(node => `${fault.id}: ${node.target} ${node.failureSummary}`))"""
"""Passed checks are neither described nor sent, which would take longer than the checks."""


def violations(page: Page) -> list[str]:
    """Return the violations that axe-core finds: in light mode all, in dark mode those of colors."""
    page.evaluate(Axe().axe_script)
    found = []
    for scheme, rules in (("light", RULES), ("dark", COLORS)):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        faults = page.evaluate(RUN, {"runOnly": rules, "resultTypes": ["violations"]})
        found += [f"{scheme} {fault}" for fault in faults]
    return found
