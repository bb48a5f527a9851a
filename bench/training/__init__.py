"""What training is measured by; `python -m bench.training` runs it all."""
