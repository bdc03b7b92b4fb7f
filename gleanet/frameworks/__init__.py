"""The same network in many frameworks: environments, adapters that run under their own interpreters, checks and timing."""
