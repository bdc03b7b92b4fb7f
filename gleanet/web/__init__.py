"""A run's float and int8 file side by side in a browser: a page of ours, onnxruntime-web, and a small server or a static folder."""

from gleanet.web.export import export_site as export_site
from gleanet.web.models import WebModel as WebModel
from gleanet.web.models import web_model as web_model
from gleanet.web.ortweb import OrtWeb as OrtWeb
from gleanet.web.ortweb import find_ort as find_ort
from gleanet.web.ortweb import setup_ort as setup_ort
from gleanet.web.server import SiteServer as SiteServer
from gleanet.web.server import open_server as open_server
from gleanet.web.site import Site as Site
from gleanet.web.site import make_site as make_site
