"""What the Makefile runs. Only the standard library, as it also makes the environment."""
