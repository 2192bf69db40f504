"""Volumes and snapshots of real nodes: a stand-in for a cloud's block store.

A volume is a folder of this machine that its node sees at the same path, so it is bound to that
node, where a cloud's disk is bound to its zone. It outlives the node's processes. A snapshot is a
copy of such a folder beside the nodes, so it can be restored on any of them.

Two promises of a block store are not kept:

* **Size is not enforced.** A volume may grow until the disk of this machine is full.
* **A snapshot is no point in time.** It is copied while it is written to, file after file. Right
  for what can be recovered from such a copy by its log, as PostgreSQL in backup mode can.
"""
