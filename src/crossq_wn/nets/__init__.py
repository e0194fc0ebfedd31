"""Networks as values: layers, policies, losses and optimisers."""
