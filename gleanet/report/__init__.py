"""Records in, one self-contained page out; and the same strings for the terminal.

What draws pictures is loaded when it is asked for: Altair would take half of the time in which a command starts.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gleanet.report.comparison import attribute_table as attribute_table
from gleanet.report.comparison import comparison_tables as comparison_tables
from gleanet.report.frontier import frontier_table as frontier_table
from gleanet.report.frontier import verdict as verdict
from gleanet.report.model_card import model_card as model_card
from gleanet.report.model_card import write_card as write_card
from gleanet.report.quantization import trial_table as trial_table
from gleanet.report.tables import Table as Table
from gleanet.report.tables import baseline as baseline
from gleanet.report.tables import table as table
from gleanet.report.view import Page as Page
from gleanet.report.view import answer as answer
from gleanet.report.view import page as page

if TYPE_CHECKING:
    from gleanet.report.again import render_again as render_again
    from gleanet.report.again import render_side_by_side as render_side_by_side
    from gleanet.report.comparison_page import render_comparison as render_comparison
    from gleanet.report.html import document as document
    from gleanet.report.html import picture as picture
    from gleanet.report.html import render as render

_WITH_PICTURES = {
    "render_again": "again",
    "render_side_by_side": "again",
    "render_comparison": "comparison_page",
    "document": "html",
    "picture": "html",
    "render": "html",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_PICTURES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"gleanet.report.{_WITH_PICTURES[name]}"), name)
