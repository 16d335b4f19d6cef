"""Pictures for people: label maps as colours over the photograph, with a legend; boxes, masks and skeletons; curves."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tfzoo.data.images import IGNORE_LABEL
from tfzoo.data.instance_masks import mask_boxes, paste_masks

_FIRST_COLOURS = (  # distinct on photographs, also for most colour-blind people (after Okabe & Ito 2008)
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (204, 121, 167), (86, 180, 233), (240, 228, 66),
)  # fmt: skip
BACKGROUND_NAMES = ("background", "__background__")
PAPER, INK = (255, 255, 255), (30, 30, 30)
SKELETON = (  # pairs of COCO's 17 points of a person
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10), (1, 2), (0, 1),
    (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
PERSON_POINTS = 17
MOST_NAMED = 40  # objects with masks of which names and boxes can be read
MOST_NUMBERED = 20  # classes in a confusion matrix whose cells have room for a number
MOST_CURVES = 12  # classes in a precision-recall picture that can be told apart
_BAND = 256  # rows that are painted at once


def palette(class_names) -> np.ndarray:
    """A colour for each class: uint8 [C, 3]. A background is black; it is left unpainted in overlays."""
    colours = []
    for index in range(len(class_names)):
        if index < len(_FIRST_COLOURS):
            colours.append(_FIRST_COLOURS[index])
        else:  # steps of the golden ratio round the colour circle
            hue, light = (index * 0.618034) % 1, (0.3, 0.7, 0.45, 0.6, 0.5)[index % 5]
            colours.append(tuple(round(255 * c) for c in colorsys.hls_to_rgb(hue, light, 0.75)))
    colours = np.array(colours, np.uint8).reshape(-1, 3)
    for index, name in enumerate(class_names):
        if name in BACKGROUND_NAMES:
            colours[index:] = np.roll(colours[index:], 1, axis=0)
            colours[index] = 0
    return colours


def overlay(image, labels, class_names, opacity=0.55) -> np.ndarray:
    """Paints a label map over its picture, the outlines of the areas in full colour.

    Args:
        image: uint8 [H, W, 3]; labels: uint8 [H, W], 255 = ignore (painted grey).
        class_names: C names; a class called "background" is left unpainted.

    Returns:
        uint8 [H, W, 3]
    """
    table = np.full((256, 3), 128, np.uint8)
    table[: len(class_names)] = palette(class_names)
    strength = np.full(256, opacity, np.float32)
    for index, name in enumerate(class_names):
        if name in BACKGROUND_NAMES:
            strength[index] = 0
    outlines, painted = _outlines(labels), np.empty(image.shape, np.uint8)
    for top in range(0, len(labels), _BAND):  # a large picture would not fit into memory four times as floats
        band = slice(top, top + _BAND)
        weight = np.where(outlines[band] & (strength[labels[band]] > 0), 1, strength[labels[band]])[..., None]
        painted[band] = np.rint(image[band] + (table[labels[band]].astype(np.float32) - image[band]) * weight)
    return painted


def _outlines(labels):
    """Pixels beside another label: bool [H, W], thicker on large pictures."""
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    thickness = max(labels.shape) // 400 | 1  # an odd number
    return np.asarray(Image.fromarray(edge).convert("L").filter(ImageFilter.MaxFilter(thickness))) > 0


def legend(labels, class_names, width, shares=True) -> np.ndarray:
    """Boxes of colour with names, and shares of the picture, for the classes in it, largest first: uint8 [h, width, 3]."""
    counts = np.bincount(np.asarray(labels).ravel(), minlength=256)
    shown = [index for index in np.argsort(-counts[: len(class_names)], kind="stable") if counts[index]]
    colours = palette(class_names)
    entries = [(tuple(colours[i].tolist()), class_names[i], counts[i]) for i in shown]
    if counts[IGNORE_LABEL]:
        entries.append(((128, 128, 128), "ignored", counts[IGNORE_LABEL]))
    texts = [f"{name}  {count / counts.sum():.0%}" if shares else name for _, name, count in entries]
    return _draw_legend([(colour, text) for (colour, *_), text in zip(entries, texts, strict=True)], width)


def _draw_legend(entries, width):
    size = max(15, width // 50)  # readable when a large picture is shrunk to a screen
    font = ImageFont.load_default(size)
    places, x, y, line = [], 8, 6, size + 9
    for _, text in entries:
        length = size + 8 + font.getlength(text) + size
        if x + length > width and x > 8:
            x, y = 8, y + line
        places.append((x, y))
        x += length
    canvas = Image.new("RGB", (width, y + line), PAPER)
    pen = ImageDraw.Draw(canvas)
    for (colour, text), (x, y) in zip(entries, places, strict=True):
        pen.rectangle((x, y + 2, x + size, y + size + 2), fill=colour, outline=INK)
        pen.text((x + size + 8, y), text, fill=INK, font=font)
    return np.asarray(canvas)


def explained(image, labels, class_names, minimum_width=320) -> np.ndarray:
    """The overlay with its legend underneath, enlarged to at least ``minimum_width``: uint8 [H', W', 3]."""
    painted = overlay(image, labels, class_names)
    painted = _enlarge(painted, -(-minimum_width // painted.shape[1]))
    return np.concatenate([painted, legend(labels, class_names, painted.shape[1])])


def comparison(images, truth, predicted, class_names, titles=("picture", "truth", "prediction"), minimum_width=200) -> np.ndarray:
    """A row for each picture: the picture, its truth, what was predicted; a legend underneath.

    Args:
        images: uint8 [N, H, W, 3]; truth and predicted: N label maps uint8 [H, W] each.
    """
    rows = []
    for image, true, found in zip(images, truth, predicted, strict=True):
        row = [image, overlay(image, true, class_names, opacity=0.8), overlay(image, found, class_names, opacity=0.8)]
        factor = -(-minimum_width // image.shape[1])
        rows.append(
            np.concatenate([_enlarge(np.pad(cell, ((2, 2), (2, 2), (0, 0)), constant_values=255), factor) for cell in row], axis=1)
        )
    body = np.concatenate(rows)
    size = max(16, body.shape[1] // 75)
    head = Image.new("RGB", (body.shape[1], size + 8), PAPER)
    for column, title in enumerate(titles):
        place, font = (column * body.shape[1] // len(titles) + 6, 3), ImageFont.load_default(size)
        ImageDraw.Draw(head).text(place, title, fill=INK, font=font)
    shown = np.concatenate([np.ravel(t) for t in (*truth, *predicted)])
    return np.concatenate([np.asarray(head), body, legend(shown, class_names, body.shape[1], shares=False)])


def draw_boxes(image, boxes, labels, class_names, scores=None, minimum_width=320, masks=None, keypoints=None) -> np.ndarray:
    """Draws boxes with their names and scores onto a picture, enlarged to at least ``minimum_width``.

    With masks or keypoints each object has a colour of its own, without them that of its class. Where there are many objects with
    masks (``MOST_NAMED``), their boxes and names are left out, as they would hide them.

    Args:
        image: uint8 [H, W, 3].
        boxes: [N, 4], xyxy in its pixels; labels: integers [N]. Of boxes that overlap the last is on top.
        class_names: C names.
        scores: [N], written after the names; None: names alone.
        masks: bool or uint8 [N, H, W]: areas that are tinted, with a contour.
        keypoints: [N, K, 3], x and y in the picture's pixels, and visibility: 0 is not drawn. Lines join the 17 points of a person.

    Returns:
        uint8 [H', W', 3]
    """
    boxes, labels = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(labels, int)
    colours = palette(class_names)[labels] if masks is None and keypoints is None else palette([""] * len(labels))
    if masks is not None:
        image = tint(image, masks, colours)
    factor = -(-minimum_width // image.shape[1])
    canvas = Image.fromarray(_enlarge(image, factor))
    if masks is None or len(labels) <= MOST_NAMED:
        _draw_frames(canvas, boxes * factor, [class_names[label] for label in labels], colours, scores)
    if keypoints is not None:
        for points, colour in zip(np.asarray(keypoints) * (factor, factor, 1), colours, strict=True):
            _draw_points(canvas, points, tuple(colour.tolist()))
    return np.asarray(canvas)


def draw_found(image, answer, class_names, min_score) -> np.ndarray:
    """Draws what a detector answers for a picture, from a score of ``min_score``, the surest on top: see ``draw_boxes``.

    Args:
        image: uint8 [H, W, 3].
        answer: "boxes" [D, 4], "scores" [D], "labels" [D], -1 for none; and "masks" [D, 28, 28] or "keypoints" [D, K, 3].
    """
    found = {name: np.asarray(values) for name, values in answer.items() if name != "num_detections"}
    drawn = np.flatnonzero((found["labels"] >= 0) & (found["scores"] >= min_score))[::-1]
    found = {name: values[drawn] for name, values in found.items()}
    masks = paste_masks(found["masks"], found["boxes"], image.shape[:2]) if "masks" in found else None
    marks = {"masks": masks, "keypoints": found.get("keypoints")}
    return draw_boxes(image, found["boxes"], found["labels"], class_names, found["scores"], **marks)


def tint(image, masks, colours, opacity=0.45) -> np.ndarray:
    """Paints masks over a picture, each in its colour, its contour in full colour; where they overlap the last is on top.

    Args:
        image: uint8 [H, W, 3]; masks: bool or uint8 [N, H, W]; colours: uint8 [N, 3].

    Returns:
        uint8 [H, W, 3]
    """
    painted = image.copy()
    thickness = max(image.shape[:2]) // 400 | 1
    for mask, (left, top, right, bottom), colour in zip(masks, mask_boxes(masks), colours, strict=True):
        inside = np.asarray(mask[top:bottom, left:right], bool)
        if inside.size:
            framed = Image.fromarray(np.pad(inside, thickness).astype(np.uint8))
            core = np.asarray(framed.filter(ImageFilter.MinFilter(2 * thickness + 1)))[thickness:-thickness, thickness:-thickness]
            area = painted[top:bottom, left:right]
            strength = np.where(inside, np.where(core, opacity, 1), 0).astype(np.float32)[..., None]
            area[:] = np.rint(area + (colour.astype(np.float32) - area) * strength)
    return painted


def _draw_points(canvas, points, colour):
    """An object's points that are known, and the lines between those of a person."""
    pen, size = ImageDraw.Draw(canvas), max(max(canvas.size) // 250, 2)
    for first, second in SKELETON if len(points) == PERSON_POINTS else ():
        if points[first, 2] > 0 and points[second, 2] > 0:
            pen.line((*points[first, :2], *points[second, :2]), fill=colour, width=size)
    for x, y, visibility in points:
        if visibility > 0:
            pen.ellipse((x - size, y - size, x + size, y + size), fill=colour, outline=PAPER)


def _draw_frames(canvas, boxes, texts, colours, scores):
    """Boxes with names and scores, onto a Pillow picture."""
    pen = ImageDraw.Draw(canvas)
    thickness = max(2, max(canvas.size) // 400)
    font = ImageFont.load_default(max(12, max(canvas.size) // 60))
    if scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores, strict=True)]
    for (left, top, right, bottom), colour, text in zip(boxes, map(tuple, colours.tolist()), texts, strict=True):
        corners = (left, top, max(right - 1, left), max(bottom - 1, top))  # Pillow's last pixel is inside
        pen.rectangle(corners, outline=colour, width=thickness)
        _write_name(pen, canvas.size, corners, text, font, colour)


def _write_name(pen, size, corners, text, font, colour):
    """A name on a ground of its box's colour: above the box, or inside it where there is no room above."""
    _, _, width, height = (round(edge) for edge in font.getbbox(text))
    left = min(max(corners[0], 0), max(size[0] - width - 6, 0))
    top = corners[1] - height - 4 if corners[1] >= height + 4 else max(corners[1], 0)
    pen.rectangle((left, top, left + width + 5, top + height + 3), fill=colour)
    ink = INK if sum(colour) > 3 * 128 else PAPER
    pen.text((left + 3, top + 1), text, fill=ink, font=font)


def contact_sheet(pictures, titles, columns=4, side=400) -> np.ndarray:
    """Pictures beside and below each other, each with its title underneath.

    Args:
        pictures: uint8 [H, W, 3] each, of any sizes; they are fitted into squares of ``side`` pixels.
        titles: as many strings; those that are too long for the side are cut.
        columns: pictures in a row.

    Returns:
        uint8 [H', W', 3]
    """
    line, gap = 24, 8
    columns = min(columns, len(pictures))
    fitted = [_fit(picture, side) for picture in pictures]
    heights = [max(p.height for p in fitted[first : first + columns]) for first in range(0, len(fitted), columns)]
    tops = np.cumsum([gap, *(height + line + gap for height in heights)]).tolist()
    sheet = Image.new("RGB", (columns * (side + gap) + gap, tops[-1]), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (picture, title) in enumerate(zip(fitted, titles, strict=True)):
        left, top = gap + number % columns * (side + gap), tops[number // columns]
        sheet.paste(picture, (left, top))
        while font.getlength(title) > side:
            title = f"{title[:-4]}..."
        pen.text((left, top + picture.height + 3), title, fill=INK, font=font)
    return np.asarray(sheet)


def _fit(picture, side):
    scale = side / max(picture.shape[:2])
    size = tuple(max(round(length * scale), 1) for length in picture.shape[1::-1])
    return Image.fromarray(picture).resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)


def plot_precision_recall(curves, path, mean_ap=None, title="AP at IoU 0.5") -> None:
    """Draws precision over recall at one overlap, a curve for each class, and their mean.

    Where there are more classes than can be told apart, all are drawn thin and grey, and only the mean has a name.

    Args:
        curves: class name -> precision [101] at recall 0, 0.01, ... 1.
        path: picture file.
        mean_ap: written beside the mean.
        title: what the numbers in the legend are.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    recall, many = np.linspace(0, 1, 101), len(curves) > MOST_CURVES
    for (name, precision), colour in zip(curves.items(), palette(list(curves)) / 255, strict=True):
        look = {"color": "0.8", "lw": 0.7} if many else {"color": colour, "lw": 1.4, "label": f"{name}  {np.mean(precision):.3f}"}
        axes.plot(recall, precision, **look)
    if len(curves) > 1:
        mean = np.mean(list(curves.values()), axis=0)
        name = f"mean of {len(curves)}" if many else "mean"
        axes.plot(recall, mean, color="black", lw=2, label=f"{name}  {np.mean(mean) if mean_ap is None else mean_ap:.3f}")
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    if curves:
        axes.legend(frameon=False, fontsize=8, title=title, title_fontsize=8)
    figure.savefig(path, dpi=150)


def plot_confusion(matrix, class_names, path) -> None:
    """Draws a confusion matrix as a heat map, each row in shares of that class's pixels.

    Classes that neither occur nor are predicted are not drawn; a row whose class never occurs is grey. The shares are written
    into the cells, in percent, where they are few enough to be read.

    Args:
        matrix: counts [R, C]: rows truth, columns prediction.
        class_names: C names; the first R are the rows'.
        path: picture file.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    matrix, class_names = np.asarray(matrix, np.float64), list(class_names)
    rows, columns = _occurring(matrix)
    counts = matrix[np.ix_(rows, columns)]
    total = counts.sum(axis=1, keepdims=True)
    shares = np.ma.masked_where(np.broadcast_to(total == 0, counts.shape), counts / np.maximum(total, 1))

    numbers = len(columns) <= MOST_NUMBERED
    side = 0.44 if numbers else 0.27  # inches
    figure = Figure(figsize=(max(3.2, 2.2 + side * len(columns)), max(2.8, 1.4 + side * len(rows))), layout="constrained")
    axes = figure.add_subplot(facecolor="0.88")
    heat = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if numbers:
        for row, column in zip(*np.nonzero(np.rint(shares.filled(0) * 100)), strict=True):
            share = shares[row, column]
            axes.text(
                column, row, f"{share * 100:.0f}", ha="center", va="center", size=8, color="white" if share > 0.55 else "black"
            )
    axes.set_yticks(range(len(rows)), [class_names[row] for row in rows], size=8)
    axes.set_xticks(range(len(columns)), [class_names[column] for column in columns], size=8, rotation=90)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(heat, shrink=0.8, format=PercentFormatter(1))
    bar.set_label("share of the\nclass's pixels", size=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    figure.savefig(path, dpi=150)


def _occurring(matrix):
    """Rows and columns of the classes with any count; where there is none, all of them."""
    used = matrix.sum(axis=0) > 0
    used[: len(matrix)] |= matrix.sum(axis=1) > 0
    used |= not used.any()
    return np.flatnonzero(used[: len(matrix)]), np.flatnonzero(used)


def _enlarge(image, factor):
    return image.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else image


def save_image(image: np.ndarray, path) -> None:
    """Writes uint8 [H, W, 3] as the suffix says."""
    Image.fromarray(image).save(path)
