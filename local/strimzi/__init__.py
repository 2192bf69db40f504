"""A stand-in for Strimzi's cluster operator, whose image cannot be had from package registries.

It makes real Kafka servers of `Kafka` and `KafkaNodePool`, and real topics and users of
`KafkaTopic` and `KafkaUser`, with the names, labels, listeners and Secrets that Strimzi gives them.
It runs beside the control plane of real local nodes and nowhere else, and keeps still where a real
Strimzi does.

What it leaves out:

* Every listener but those inside the cluster; authentication other than SCRAM with a declared
  password; storage other than `jbod` of `persistent-claim`; numbers of servers that no annotation
  gives. The last three are refused, in the status.
* Kafka Exporter, Cruise Control and MirrorMaker 2: a cluster that grows is not rebalanced.
* A restart waits until the server before is ready, not until its replicas are in sync.
* Deleting a topic, user or right in Kubernetes leaves it in Kafka.
* Certificates are not renewed; they outlive any local world. The controllers' quorum is static.
"""
