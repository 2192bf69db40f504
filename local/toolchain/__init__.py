"""The programs that the local world runs: pinned here, built once, kept in a cache."""
