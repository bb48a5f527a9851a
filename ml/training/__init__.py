"""What `ml.train.fit` is made of."""
