"""The method's three steps, each a function of its configuration and inputs."""
