"""What a SuperNode runs. Flower starts a process for every message, so imports are kept few."""

from flower_client import Planted, counting_mod
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp


class Site(Planted):
    """Is lost by an error in each round, or by a kill in the last."""

    def __init__(self, context):
        self.config, site = context.run_config, int(context.node_config["partition-id"])
        node = context.node_config["process"] if self.config["killed"] else None
        super().__init__(self.config["elements"], site, site < self.config["lost"], self.config["vector"], node)

    def fit(self, parameters, config):
        if self.node:
            self.fails = self.fails and config["round"] == self.config["rounds"]
        return super().fit(parameters, config)


app = ClientApp(client_fn=lambda context: Site(context).to_client(), mods=[counting_mod, secaggplus_mod])
