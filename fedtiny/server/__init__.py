"""The driver's side: rounds, counting what crosses the wire, evaluation."""
