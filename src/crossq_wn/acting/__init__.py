"""Acting in numpy alone: policy networks as lists of operations, which need no JAX."""
