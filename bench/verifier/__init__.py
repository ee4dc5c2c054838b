"""How fast the verifier is, how much memory it takes, how often it agrees with the kernel."""
