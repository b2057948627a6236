"""Networks: modules only, whose attribute names are the keys of the published checkpoints."""
