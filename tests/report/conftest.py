"""A real browser, where this machine has one."""

from tests.web.conftest import browser as browser
from tests.web.conftest import ort_web as ort_web
