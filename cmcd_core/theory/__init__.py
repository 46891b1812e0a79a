"""How far apart two modalities lie in feature space, and what that says of the error of a head on the features."""
