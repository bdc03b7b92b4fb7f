"""Records in, one self-contained page out; and the same strings for the terminal."""

from gleanet.report.comparison import attribute_table as attribute_table
from gleanet.report.comparison import comparison_tables as comparison_tables
from gleanet.report.comparison_page import render_comparison as render_comparison
from gleanet.report.html import document as document
from gleanet.report.html import picture as picture
from gleanet.report.html import render as render
from gleanet.report.quantization import trial_table as trial_table
from gleanet.report.tables import Table as Table
from gleanet.report.tables import baseline as baseline
from gleanet.report.tables import table as table
from gleanet.report.view import Page as Page
from gleanet.report.view import answer as answer
from gleanet.report.view import page as page
