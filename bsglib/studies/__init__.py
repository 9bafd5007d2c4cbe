"""The four sources: per study its parameters, its design and its claims."""
