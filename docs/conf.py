"""The site: `make docs` builds it from the Markdown here, and fails where a link is dead."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

project = "jaxnn"
extensions = ["myst_parser"]
exclude_patterns = ["_build", "guide"]
nitpicky = True
myst_heading_anchors = 3  # a link to #a-heading, as GitHub knows it
myst_fence_as_directive = ["math"]  # ```math, as GitHub knows it
html_theme = "furo"
html_title = project
html_copy_source = html_use_index = False
html_extra_path = ["play.html"]
html_static_path, html_css_files = ["static"], ["site.css"]
html_math_renderer = "mathml"


def setup(app):
    """Formulas become MathML, which browsers set by themselves: nothing is fetched, as MathJax would be."""
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula, None))


def write_formula(translator, node):
    """The formula in the page, a displayed one in a paragraph of its own."""
    displayed = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=displayed)
    translator.body.append(f"<p>{formula}</p>" if displayed else formula)
    raise nodes.SkipNode
