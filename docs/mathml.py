"""Formulas as MathML, which browsers draw themselves: no script, no network."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def _write(writer, node: nodes.Element, **options: bool) -> None:
    try:
        writer.body.append(tex2mathml(node.astext(), **options))
    except MathError as error:
        logger.warning("%s: %s", node.astext(), error, location=node)
    raise nodes.SkipNode


def visit_math(writer, node: nodes.math) -> None:
    """Write a formula within a line."""
    _write(writer, node)


def visit_displayed_math(writer, node: nodes.math_block) -> None:
    """Write a formula on a line of its own."""
    writer.body.append(writer.starttag(node, "div", CLASS="math-block"))
    try:
        _write(writer, node, as_block=True)
    finally:
        writer.body.append("</div>")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displayed_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
