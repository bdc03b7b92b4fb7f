from gleanet.nn.networks.table import NETWORKS as NETWORKS
from gleanet.nn.networks.table import Network as Network
