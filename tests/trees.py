"""Parameter trees as Flax holds them"""

def nested(flat, separator):
    "Names with a separator as nested dictionaries: {'a/b': x} becomes {'a': {'b': x}}"
    root = {}
    for name,leaf in flat.items():
        *path,last = name.split(separator)
        node = root
        for p in path: node = node.setdefault(p, {})
        node[last] = leaf
    return root
