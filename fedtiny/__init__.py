"""FedTiny: federated pruning towards tiny neural networks."""
