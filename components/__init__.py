"""What the platform is made of: one Pulumi component a file, each usable alone."""
