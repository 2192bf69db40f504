"""The policy pack: what must hold of every declared resource so that the platform survives."""
