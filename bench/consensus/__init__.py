"""`python -m bench.consensus`: crowds, real and made up, settled by every method. See bench/README.md."""
