"""The embedded demo data: small rendered 3-D scenes seen by four sensors, made on this machine from a seed.

One scene is the single source of truth of its image, depth map, sketch, struck-object sound, label and mask.
Rendering needs numpy alone; the arrays are cached on disk, see `cmcd_datasets.demo.loader`.

    from cmcd_datasets.demo.loader import DemoLoader

Nothing is imported here, so that `import cmcd_datasets.demo` costs nothing.
"""
