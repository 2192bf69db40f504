"""Volumes and snapshots of real nodes: a stand-in for a cloud's block store.

A volume is a folder on its node's disk, so it is bound to that node, where a cloud's disk is bound
to its zone. It outlives the node's processes. A snapshot is a copy of such a folder beside the
nodes, so it can be restored on any of them.

Two promises of a block store are not kept:

* **Size is not enforced.** All volumes of a node share one disk, and may grow until it is full.
* **A snapshot is no point in time.** It is copied while it is written to, file after file. Right
  for what can be recovered from such a copy by its log, as PostgreSQL in backup mode can.
"""
