"""Record the digests of the generator's jars."""

from local.toolchain import strimzi

strimzi.record()
