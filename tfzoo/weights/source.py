"""What every origin of weights offers to ``create_model``."""


class Source:
    """Weights, before there is a model to put them into.

    Attributes:
        num_classes, class_names: what the weights were trained for; None where they tell nothing about it.
        options: options of the model that the weights decide, unless others are given.
    """

    num_classes = None
    class_names = None
    options: dict = {}

    def load(self, model, new_head):
        """Puts the weights into a model. ``new_head``: the classes were given, so they are not those of the weights."""
        raise NotImplementedError
