"""Client programs that run in a Pod, with the standard library and the driver of one store."""
