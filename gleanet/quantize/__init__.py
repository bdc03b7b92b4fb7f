from gleanet.quantize.choose import Choice as Choice
from gleanet.quantize.choose import quantize as quantize
from gleanet.quantize.methods import METHODS as METHODS
from gleanet.quantize.methods import SHORTLIST as SHORTLIST
from gleanet.quantize.methods import Method as Method
from gleanet.quantize.reasons import USUAL_DROP as USUAL_DROP
