"""The building blocks of networks: layers, normalisation, policies, losses and optimisers."""
