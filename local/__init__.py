"""A Kubernetes and an AWS on this machine, and the engine to deploy onto them."""
