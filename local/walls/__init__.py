"""NetworkPolicies, enforced on the real local nodes with nftables.

kube-network-policies, which does this elsewhere, needs packet queues to user space (NFQUEUE), and
the kernels that this world must run on have none.
"""
