"""What is in a data set, and what is wrong with it: any data set that a loader reads, before any training."""
