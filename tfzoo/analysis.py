"""What a network costs and sees, read off its graph: multiply-adds, receptive field, output stride.

Only shapes are computed: no weight is needed, and nothing is run. Receptive fields follow Araujo, Norris, Sim 2019 (Computing
Receptive Fields of Convolutional Neural Networks), and Dumoulin & Visin 2016 for transposed convolutions.
"""

import concurrent.futures
import dataclasses
import functools
import math

import keras
from keras import tree

TAPS = {"nearest": 1, "bilinear": 2, "bicubic": 4, "lanczos3": 6, "lanczos5": 10}  # of an interpolation, along one axis
NOTICEABLE = 1.5  # a map that grows or shrinks by a smaller factor is padded or cropped, not resized


@dataclasses.dataclass(frozen=True)
class Axis:
    """What one position of a map sees along one axis of the picture.

    Attributes:
        field: pixels.
        jump: pixels between neighbouring positions.
        length: positions of the map.
    """

    field: float = 1
    jump: float = 1
    length: int = 1


@dataclasses.dataclass(frozen=True)
class View:
    """What one position of a map sees of the picture.

    Attributes:
        axes: of rows and columns, through convolutions and local windows.
        whole: it sees the whole picture too, by global pooling, or pooling to a fixed number of bins.
        pooled: its map comes from such a pooling alone.
    """

    axes: tuple[Axis, Axis]
    whole: bool = False
    pooled: bool = False


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The result of ``analyse``.

    Attributes:
        multiply_adds: of convolutions, transposed convolutions and dense layers, for one picture.
        receptive_field: side in pixels of what one answered position sees, global poolings left aside. Windows are of one size
            at every position, but behind upsampling, where the exact one differs by some pixels from position to position.
        whole_picture: whether global pooling lets each position see the whole picture.
        output_stride: pixels between neighbouring positions of the coarsest map, globally pooled ones left aside.
    """

    multiply_adds: int
    receptive_field: int
    whole_picture: bool
    output_stride: int


def analyse(model, image_size) -> Analysis:
    """Follows a picture of ``image_size`` (height, width) through a functional or sequential model of [B, H, W, C] pictures.

    Of a model of several inputs it is the one of four axes; the others tell nothing about the picture.
    Of several outputs the one named "out", or else the first one, is that whose receptive field is told.

    Raises:
        TypeError: a layer has a kernel, and no rule here says what it costs.
    """
    walk = _Walk()
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.input
    outputs = walk.step(model, tree.map_structure(lambda symbol: _entering(symbol, image_size), inputs))
    main = outputs["out"] if isinstance(outputs, dict) and "out" in outputs else tree.flatten(outputs)[0]
    return Analysis(
        multiply_adds=walk.multiply_adds,
        receptive_field=round(max(axis.field for axis in main.view.axes)),
        whole_picture=main.view.whole,
        output_stride=round(walk.coarsest),
    )


def multiply_adds_of_fixed(graph) -> int:
    """Those of a functional model whose input has a size of its own, such as the head of a region."""
    layers = (layer for layer in graph.layers if layer.weights)
    return sum(multiply_adds(layer, (1, *layer.input.shape[1:]), (1, *layer.output.shape[1:])) for layer in layers)


def without_weights(function):
    """Calls ``function``; models that it builds get no values for their weights, and so take no memory for them.

    It runs in a thread of its own: Keras remembers, by thread, which variables lack values, and would fill them in later.
    """

    def run():
        with keras.StatelessScope(initialize_variables=False):
            return function()

    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(run).result()


# === Following the graph ===


def _entering(symbol, image_size):
    """The ``_Map`` of a model's input: of pictures, or of what does not grow with them."""
    if len(symbol.shape) != 4:
        spec = keras.KerasTensor([side or 1 for side in symbol.shape], symbol.dtype)
        return _Map(spec, spec, View((Axis(), Axis()), whole=True, pooled=True))
    height, width = image_size
    specs = [keras.KerasTensor((1, *size, symbol.shape[-1]), symbol.dtype) for size in (image_size, (2 * height, 2 * width))]
    return _Map(*specs, View((Axis(length=height), Axis(length=width))))


@dataclasses.dataclass(frozen=True)
class _Map:
    """A tensor on its way.

    Attributes:
        spec: its shape and dtype.
        larger: the same for a picture of twice the height and width.
        view: what its positions see.
    """

    spec: keras.KerasTensor
    larger: keras.KerasTensor
    view: View


class _Walk:
    """Adds up what it passes."""

    def __init__(self):
        self.multiply_adds, self.coarsest = 0, 1

    def through(self, graph, maps):
        """Returns what leaves a ``keras.Function``, such as a functional model, for the maps that enter it."""
        return graph._run_through_graph(maps, operation_fn=lambda operation: functools.partial(self.step, operation))

    def step(self, operation, *args, **kwargs):
        """Returns what leaves a layer or another operation for what enters it."""
        operation = getattr(operation, "_functional", None) or operation  # of a Sequential
        if isinstance(operation, keras.Function):
            return self.through(operation, args[0])
        if getattr(operation, "fixed_size", None):
            return self._stretched(operation, args[0])
        if isinstance(operation, keras.Layer) and operation._flatten_layers(include_self=False):
            return self._inside(operation, args, kwargs)
        maps = [leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, _Map)]
        specs, larger = (_output_specs(operation, args, kwargs, which) for which in ("spec", "larger"))
        self.multiply_adds += multiply_adds(operation, maps[0].spec.shape, tree.flatten(specs)[0].shape)
        return tree.map_structure(lambda spec, larger: self._arrive(operation, maps, spec, larger), specs, larger)

    def _stretched(self, layer, map_):
        """Of a network of one fixed size: what it sees is counted in pixels of that size."""
        height, width = layer.fixed_size
        specs = (keras.KerasTensor((1, factor * height, factor * width, 3), layer.compute_dtype) for factor in (1, 2))
        return _Map(*specs, map_.view)

    def _arrive(self, operation, maps, spec, larger):
        view = see(operation, [map_.view for map_ in maps], spec.shape)
        if spec.shape == larger.shape:  # it does not grow with the picture
            view = dataclasses.replace(view, whole=True, pooled=True)
        if not view.pooled:
            self.coarsest = max(self.coarsest, *(axis.jump for axis in view.axes))
        return _Map(spec, larger, view)

    def _inside(self, layer, args, kwargs):
        """Of a layer made of layers: calls it on symbolic inputs, and follows the graph that this makes."""
        maps = [leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, _Map)]
        symbols = {id(map_): keras.Input(batch_shape=map_.spec.shape, dtype=map_.spec.dtype) for map_ in maps}
        args, kwargs = tree.map_structure(lambda leaf: symbols.get(id(leaf), leaf), (args, kwargs))
        graph = keras.Function([symbols[id(map_)] for map_ in maps], layer.call(*args, **kwargs))
        return self.through(graph, maps)


def _output_specs(operation, args, kwargs, which):
    args, kwargs = tree.map_structure(lambda leaf: getattr(leaf, which) if isinstance(leaf, _Map) else leaf, (args, kwargs))
    return operation.compute_output_spec(*args, **kwargs)


# === What a position sees ===


@functools.singledispatch
def see(operation, views, shape) -> View:
    """What the positions of an output of ``shape`` see, for what those of the inputs see.

    Where nothing else is known of an operation, its output's size tells what it does: a map that shrank was pooled without
    overlap, one that grew was resized (by the operation's ``interpolation``), and any other position sees what the inputs'
    positions see. Of operations named "...Like", the second input gives no more than its size.
    """
    if type(operation).__name__.endswith("Like"):
        views = views[:1]
    taps = TAPS.get(getattr(operation, "interpolation", "nearest"), 1)
    return _merge([_resized(view, shape, taps) for view in views])


@see.register(keras.layers.Conv2D)
@see.register(keras.layers.DepthwiseConv2D)
@see.register(keras.layers.SeparableConv2D)
def _(operation, views, shape):
    return _windowed(views, shape, operation.kernel_size, operation.strides, operation.dilation_rate)


@see.register(keras.layers.MaxPooling2D)
@see.register(keras.layers.AveragePooling2D)
def _(operation, views, shape):
    return _windowed(views, shape, operation.pool_size, operation.strides, (1, 1))


@see.register(keras.layers.Conv2DTranspose)
def _(operation, views, shape):
    (view,) = views
    axes = []
    for axis, kernel, stride, dilation, length in zip(
        view.axes, operation.kernel_size, operation.strides, operation.dilation_rate, shape[1:3], strict=True
    ):
        taps = math.ceil(((kernel - 1) * dilation + 1) / stride)  # input positions that reach one output position
        axes.append(Axis(axis.field + (taps - 1) * axis.jump, axis.jump / stride, length))
    return dataclasses.replace(view, axes=tuple(axes))


def _windowed(views, shape, kernel_size, strides, dilations):
    (view,) = views
    axes = []
    for axis, kernel, stride, dilation, length in zip(view.axes, kernel_size, strides, dilations, shape[1:3], strict=True):
        axes.append(Axis(axis.field + (kernel - 1) * dilation * axis.jump, axis.jump * stride, length))
    return dataclasses.replace(view, axes=tuple(axes))


def _resized(view, shape, taps):
    if len(shape) != 4:  # between two reshapes, or features without positions
        return view
    return dataclasses.replace(view, axes=tuple(_resized_axis(*pair, taps) for pair in zip(view.axes, shape[1:3], strict=True)))


def _resized_axis(axis, length, taps):
    if axis.length >= NOTICEABLE * length:
        factor = round(axis.length / length)
        return Axis(axis.field + (factor - 1) * axis.jump, axis.jump * factor, length)
    if length >= NOTICEABLE * axis.length:
        return Axis(axis.field + (taps - 1) * axis.jump, axis.jump / round(length / axis.length), length)
    return dataclasses.replace(axis, length=length)


def _merge(views):
    """The largest field and jump along each axis; globally pooled maps, beside others, add but "whole"."""
    local = [view for view in views if not view.pooled] or views
    axes = (
        Axis(max(axis.field for axis in pair), max(axis.jump for axis in pair), pair[0].length)
        for pair in zip(*(view.axes for view in local), strict=True)
    )
    return View(tuple(axes), whole=any(view.whole for view in views), pooled=all(view.pooled for view in views))


# === What it costs ===


@functools.singledispatch
def multiply_adds(operation, input_shape, output_shape) -> int:
    """Multiplications (each with its addition) of a layer for a batch of the given shapes; 0 for what has no kernel.

    Raises:
        TypeError: it has a kernel, and there is no rule for its class.
    """
    for weight in getattr(operation, "weights", ()):
        if sum(side > 1 for side in weight.shape) > 1:
            raise TypeError(f"There is no rule for the cost of {type(operation).__name__}, whose {weight.path} is a kernel.")
    return 0


@multiply_adds.register(keras.layers.Conv2D)
@multiply_adds.register(keras.layers.DepthwiseConv2D)
@multiply_adds.register(keras.layers.Dense)
def _(operation, input_shape, output_shape):
    return math.prod(output_shape[:-1]) * math.prod(operation.kernel.shape)


@multiply_adds.register(keras.layers.SeparableConv2D)
def _(operation, input_shape, output_shape):
    kernels = operation.depthwise_kernel, operation.pointwise_kernel
    return math.prod(output_shape[:-1]) * sum(math.prod(kernel.shape) for kernel in kernels)


@multiply_adds.register(keras.layers.Conv2DTranspose)
def _(operation, input_shape, output_shape):
    return math.prod(input_shape[:-1]) * math.prod(operation.kernel.shape)
