"""Class names that files in the wild leave out: CIFAR-10 and CIFAR-100 (fine labels), in label order.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009;
the files batches.meta and meta of the official archives.
"""

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar cattle
chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house
kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100 = tuple(_CIFAR100.split())


def numbered(n: int) -> tuple[str, ...]:
    """Stand-ins where nobody named the classes: "class 0", "class 1", ..."""
    return tuple(f"class {label}" for label in range(n))
