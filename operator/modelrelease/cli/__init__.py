"""Commands for people: the kubectl plugin and the generator of the CRDs."""
