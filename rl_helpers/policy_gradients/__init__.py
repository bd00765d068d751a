"""Part II, policy gradients."""
