"""Where donors of mixed sizes end up when each follows ``core.serving.choose``: whole swarms, simulated."""
