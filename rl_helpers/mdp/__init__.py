"""Part I, Markov decision processes."""
