"""Any data set as WebDataset tars, which the `shards` loader reads; docs/own-data.md describes them."""
