from gleanet.train.evaluate import predict as predict
from gleanet.train.loop import fit as fit
from gleanet.train.rangetest import range_test as range_test
from gleanet.train.recipe import Recipe as Recipe
