"""The building blocks of networks, as pure functions: layers, normalisation, policies, losses and optimisers."""
