"""The `shards` loader: paired data in tar files, as WebDataset has them; what `cmcd data pack` writes.

    train-000000.tar  train-000001.tar  val-000000.tar  test-000000.tar
    dataset.toml  classes.txt  mask_classes.txt                 all optional, as for the `folder` loader

The split is what a tar's name begins with. One sample is all members of one key, whatever stands before the first dot
of the name:

    0001.image.jpg      a view: KEY.MODALITY.TYPE
    0001.depth.png
    0001.mask.png       class ids
    0001.label.txt      the name of the class
    0001.target-box.npy another target, "box"
    0001.json           {"cmcd": {"key": …, "weight": …, "targets": {…}, "known_by": {…}}}, all of it optional

Nothing is extracted: an index of offsets is made once for each tar and kept in the cache.
"""
