"""A stand-in for the kubernetes provider: the same resources, ids and outputs as the real plugin.

`provider.py` answers the engine; the other modules each hold one of its concerns: `kubeconfig.py`
how to reach the cluster, `api.py` talking to it, `objects.py` what the engine's and the server's
view of an object have in common, `diff.py` what forces a replacement, `applying.py` dry runs
and server-side apply, `readiness.py` when an object is ready, `awaiting.py` waiting for that,
`reasons.py` why it is not.
"""
