"""Parameter counts, layer by layer, from the papers' own tables; nothing here looks at the code under test.

Trained numbers alone are counted: a batch normalisation has a scale and a shift, its moving averages are statistics.
"""

import itertools

RESNET50, RESNET101 = 23_508_032, 42_500_160  # torchvision's counts without the classifier (25,557,032 and 44,549,160 with it)
MOBILENET_V2 = 2_223_872 - 320 * 1280 - 2 * 1280  # Keras's trainable count without top, less the last 1x1 convolution


def conv(size, inputs, outputs, bias=True):
    return size * size * inputs * outputs + bias * outputs


def conv_norm(size, inputs, outputs):
    """A convolution without bias, and a batch normalisation."""
    return conv(size, inputs, outputs, bias=False) + 2 * outputs


def separable_norm(size, inputs, outputs):
    """Depthwise and pointwise convolutions, each followed by a batch normalisation."""
    return size * size * inputs + 2 * inputs + conv_norm(1, inputs, outputs)


VGG16 = list(itertools.pairwise([3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6]))  # Simonyan & Zisserman 2015, table 1, column D


def vgg16():
    """The thirteen convolutions."""
    return sum(conv(3, i, o) for i, o in VGG16)


def segnet(classes):
    """Badrinarayanan 2017: VGG16's convolutions and their mirror image, normalised; the last one gives the scores."""
    return sum(conv_norm(3, i, o) for i, o in VGG16) + sum(conv_norm(3, o, i) for i, o in VGG16[1:]) + conv(3, 64, classes)


def segnet_basic(classes):
    """Badrinarayanan 2017: eight 7x7 convolutions of 64 features, normalised, and 1x1 scores."""
    return conv_norm(7, 3, 64) + 7 * conv_norm(7, 64, 64) + conv(1, 64, classes)


def deconvnet(classes):
    """Noh 2015: VGG16 with fc6 and fc7, mirrored from a 7x7 deconvolution down to 64 channels, all normalised; 1x1 scores."""
    middle = conv_norm(7, 512, 4096) + conv_norm(1, 4096, 4096) + conv_norm(7, 4096, 512)
    mirror = sum(conv_norm(3, o, i) for i, o in VGG16[1:]) + conv_norm(3, 64, 64)
    return sum(conv_norm(3, i, o) for i, o in VGG16) + middle + mirror + conv(1, 64, classes)


def unet(classes):
    """Ronneberger 2015, figure 1, layer by layer, for RGB pictures: 3x3 pairs at 64 ... 1024, 2x2 up-convolutions, 1x1 head."""
    widths = [64, 128, 256, 512, 1024]
    down = sum(conv(3, i, o) + conv(3, o, o) for i, o in zip([3, *widths], widths, strict=False))
    up = sum(conv(2, 2 * w, w) + conv(3, 2 * w, w) + conv(3, w, w) for w in widths[:-1])
    return down + up + conv(1, 64, classes)


def unet_with_backbone(backbone, encoder, classes):
    """Features at strides 2 to 32; at each step a 2x2 up-convolution, a skip, and two 3x3 convolutions."""
    total, x = backbone, encoder[-1]
    for skip, width in zip([*reversed(encoder[:-1]), 0], (256, 128, 64, 32, 16), strict=True):
        total += conv(2, x, width) + conv_norm(3, width + skip, width) + conv_norm(3, width, width)
        x = width
    return total + conv(1, x, classes)


def fcn(classes, stride):
    """VGG16's convolutions, fc6 and fc7 as convolutions, a 1x1 score for each stream, bilinear kernels between streams."""
    head = conv(7, 512, 4096) + conv(1, 4096, 4096) + conv(1, 4096, classes)
    skips = {32: (), 16: (512,), 8: (512, 256)}[stride]
    streams = sum(conv(1, width, classes) + conv(4, classes, classes, bias=False) for width in skips)
    return vgg16() + head + streams + conv(2 * stride, classes, classes, bias=False)


def dilated_vgg16(classes):
    """Yu & Koltun 2016: fc6 and fc7 as convolutions, scores, then table 1's basic module: seven 3x3 layers and one 1x1."""
    front_end = vgg16() + conv(7, 512, 4096) + conv(1, 4096, 4096) + conv(1, 4096, classes)
    return front_end + 7 * conv(3, classes, classes) + conv(1, classes, classes)


def deeplab_largefov(classes):
    """Chen 2015: fc6 is 3x3 with 1024 channels; with 21 classes the paper's 20.5 million."""
    return vgg16() + conv(3, 512, 1024) + conv(1, 1024, 1024) + conv(1, 1024, classes)


def deeplab_v2(classes):
    """Chen 2018: four dilated 3x3 classifiers on ResNet-101."""
    return RESNET101 + 4 * conv(3, 2048, classes)


def deeplab_v3plus(backbone, high, low, classes):
    """Chen, Zhu 2018, figure 2, with separable convolutions: 1x1, three rates and the picture; 48 low channels; two of 256."""
    pyramid = conv_norm(1, high, 256) + 3 * separable_norm(3, high, 256) + conv_norm(1, high, 256) + conv_norm(1, 5 * 256, 256)
    decoder = conv_norm(1, low, 48) + separable_norm(3, 256 + 48, 256) + separable_norm(3, 256, 256)
    return backbone + pyramid + decoder + conv(1, 256, classes)


def pspnet(classes):
    """Zhao 2017, figure 3: four bins of 512 channels beside the 2048, a 3x3 convolution to 512, scores."""
    return RESNET50 + 4 * conv_norm(1, 2048, 512) + conv_norm(3, 4096, 512) + conv(1, 512, classes)


def enet(classes):
    """Paszke 2016, table 1; internal width a quarter; PReLU has a slope for each channel; no bias before a normalisation."""

    def bottleneck(width, kind, slopes=True):
        q = width // 4
        between = {"3x3": [9 * q * q], "5x1": [5 * q * q, 5 * q * q]}[kind]
        main = sum(weights + 2 * q for weights in between)
        return conv_norm(1, width, q) + main + conv_norm(1, q, width) + slopes * (q + len(between) * q + width)

    def down(inputs, width):
        q = width // 4
        return conv_norm(2, inputs, q) + conv_norm(3, q, q) + conv_norm(1, q, width) + 2 * q + width

    def up(inputs, width):
        q = width // 4
        return conv_norm(1, inputs, q) + conv_norm(3, q, q) + conv_norm(1, q, width) + conv_norm(1, inputs, width)

    initial = conv(3, 3, 13, bias=False) + 2 * 16 + 16
    context = ("3x3", "3x3", "5x1", "3x3", "3x3", "3x3", "5x1", "3x3")  # dilation changes no count
    encoder = down(16, 64) + 4 * bottleneck(64, "3x3") + down(64, 128) + 2 * sum(bottleneck(128, kind) for kind in context)
    decoder = up(128, 64) + 2 * bottleneck(64, "3x3", slopes=False) + up(64, 16) + bottleneck(16, "3x3", slopes=False)
    return initial + encoder + decoder + conv(2, 16, classes)
