"""The `folder` loader: paired files in a folder, with a metadata file or without.

With metadata (`metadata.csv` or `metadata.jsonl`), one row a pair:

    id,split,label,image_file_name,depth_file_name,mask_file_name,weight
    0001,train,cup,image/0001.jpg,depth/0001.png,mask/0001.png,1.0

Only one `<modality>_file_name` column is needed. An empty cell is an absent view, mask or label.

Without metadata, one folder a modality, `mask/` for masks, and subfolders that name the class where there are any:

    image/0001.jpg              depth/0001.png                   no splits, no labels
    image/cup/0001.jpg          depth/cup/0001.png               labels
    train/image/cup/0001.jpg    train/depth/cup/0001.png         splits above the modality
    image/train/cup/0001.jpg    depth/train/cup/0001.png         splits below the modality

Files pair by their path below the modality (and split) without the suffix; what is left, by the bare file stem.

Beside either, all optional: `dataset.toml`, `classes.txt` and `mask_classes.txt`.
"""
