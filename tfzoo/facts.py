"""What is known of each model: size, cost, what it sees, what is published, and which exports are proved.

``python -m tfzoo.facts`` reads the facts off the networks' graphs and writes model_facts.json, which ships with the package, so
that ``tfzoo models`` answers at once; export_proofs.json is written by ``python -m tfzoo.benchmarks.proofs``.
"""

import argparse
import ast
import dataclasses
import inspect
import json
import pathlib
import textwrap

from tfzoo.weights.shipped import read_cards
from tfzoo.zoo import MODELS, find_entry

HERE = pathlib.Path(__file__).parent
FACTS_FILE, PROOFS_FILE = HERE / "model_facts.json", HERE / "export_proofs.json"
IMAGE_SIZE = (512, 512)
NUM_CLASSES = 21  # Pascal VOC
FORMATS = ("savedmodel", "onnx", "tflite", "float16", "dynamic", "int8")  # the last four are TFLite files
REVISION = 2  # of exports: raised when a model's files come out with another graph, so that proofs of earlier ones are told apart


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a model's graph tells, at its class's default options.

    Attributes:
        parameters: number of weights, those that training does not move among them.
        gflops: 10^9 operations for one picture of ``image_size``, a multiply-add counted as 2. Convolutions, transposed
            convolutions and dense layers are counted exactly, those of a second stage for all regions that ``predict`` runs it
            on; poolings, resizing and element-wise operations are left out.
        image_size: (height, width) that ``gflops`` is for.
        num_classes: that the model was built for.
        receptive_field: side in pixels of what one answered pixel sees through convolutions and local poolings (theoretical).
        whole_picture: whether global pooling lets it see the whole picture besides.
        output_stride: pixels between neighbouring positions of the coarsest feature map.
    """

    parameters: int
    gflops: float
    image_size: tuple[int, int]
    num_classes: int
    receptive_field: int
    whole_picture: bool
    output_stride: int


def describe(name: str, image_size=IMAGE_SIZE, num_classes=NUM_CLASSES, **options) -> Facts:
    """Reads a model's facts off its graph; it gets no weights and is not run.

    Args:
        name: one of ``list_models()``.
        image_size: (height, width); a network that stretches every picture to a size of its own is described at that one.
        **options: of ``create_model``.

    Raises:
        InputError: an unknown name or option.
    """
    from tfzoo.analysis import analyse, multiply_adds_of_fixed, without_weights
    from tfzoo.factory import create_model

    def read():
        model = create_model(name, num_classes=num_classes, **options)
        regions = sum(count * multiply_adds_of_fixed(head) for head, count in model.region_heads())
        return model.count_params(), model.fixed_size or image_size, analyse(model, image_size), regions

    parameters, image_size, analysis, regions = without_weights(read)
    return Facts(
        parameters=parameters,
        gflops=2 * (analysis.multiply_adds + regions) / 1e9,
        image_size=tuple(image_size),
        num_classes=num_classes,
        receptive_field=analysis.receptive_field,
        whole_picture=analysis.whole_picture,
        output_stride=analysis.output_stride,
    )


def read_facts() -> dict[str, Facts]:
    """Returns the facts that ship with the package, by name."""
    if not FACTS_FILE.is_file():
        return {}
    stored = json.loads(FACTS_FILE.read_text())
    return {name: Facts(**{**facts, "image_size": tuple(facts["image_size"])}) for name, facts in stored.items()}


def write_facts(names=None) -> None:
    """Reads the facts of these models (None: all) off their graphs, and writes them into the file that ships."""
    facts = {} if names is None else read_facts()
    for name in names or sorted(MODELS):
        facts[name] = describe(name)
        print(f"{name}: {facts[name]}", flush=True)
    kept = {name: dataclasses.asdict(facts[name]) for name in sorted(facts) if name in MODELS}
    FACTS_FILE.write_text(json.dumps(kept, indent=1) + "\n")


def read_proofs() -> dict[str, dict]:
    """Returns what ``python -m tfzoo.benchmarks.proofs`` wrote, by name."""
    return json.loads(PROOFS_FILE.read_text()) if PROOFS_FILE.is_file() else {}


def proved_formats(proof: dict) -> list[str]:
    """The formats whose files were found to answer what the Keras model answers."""
    formats = proof.get("formats", {})
    return [form for form in FORMATS if formats.get(form, {}).get("proved")]


# === For people ===

HEADER = ("name", "task", "params", "GFLOPs", "field", "stride", "weights", "published", "proved")
LEGEND = """\
GFLOPs: for a picture of {size}, or of a network's own fixed size, and {classes} classes; a multiply-add counts 2;
        pooling, resizing and element-wise operations 0.
field: theoretical receptive field in pixels; "whole" by global pooling. stride: of the coarsest feature map.
proved: exports that were run in their own runtime and compared with Keras.
        all: {formats}; the last three are quantized TFLite files.
'tfzoo models NAME' tells more of one."""


def format_table(names) -> str:
    """One line for each model."""
    facts, proofs = read_facts(), read_proofs()
    rows = [HEADER, *(_row(name, facts.get(name), proofs.get(name, {})) for name in names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_align(*cell) for cell in zip(HEADER, row, widths, strict=True)).rstrip() for row in rows]
    legend = LEGEND.format(size="x".join(map(str, IMAGE_SIZE)), classes=NUM_CLASSES, formats=", ".join(FORMATS))
    return "\n".join([*lines, "", legend])


def _align(column, cell, width):
    return cell.rjust(width) if column in ("params", "GFLOPs", "field", "stride") else cell.ljust(width)


def _row(name, facts, proof):
    entry = MODELS[name]
    numbers = ("-",) * 4
    if facts:
        field = "whole" if facts.whole_picture else str(facts.receptive_field)
        numbers = (_millions(facts.parameters), f"{facts.gflops:.1f}", field, str(facts.output_stride))
    proved = proved_formats(proof)
    return (
        name,
        entry.task,
        *numbers,
        ", ".join(entry.weights) or "-",
        entry.published.partition(" (")[0] or "-",
        _brief(proved),
    )


def _brief(proved):
    """All, all but one, a number of them, or one's name: the column stays narrow."""
    missing = [form for form in FORMATS if form not in proved]
    if len(missing) <= 1:
        return f"all but {missing[0]}" if missing else "all"
    return f"{len(proved)} of {len(FORMATS)}" if len(proved) > 1 else proved[0] if proved else "-"


def _millions(count):
    return f"{count / 1e6:.1f} M" if count >= 1e7 else f"{count / 1e6:.2f} M"


def format_details(name: str) -> str:
    """All that is known of one model, its options and what its class says about itself.

    Raises:
        InputError: an unknown name.
    """
    entry, facts, proof = find_entry(name), read_facts().get(name), read_proofs().get(name, {})
    lines = [f"{name}: {entry.task}, {entry.paper}", ""]
    if facts:
        sees = f"{facts.receptive_field} pixels{', and the whole picture by global pooling' if facts.whole_picture else ''}"
        size = "x".join(map(str, facts.image_size))
        lines += [
            f"parameters       {facts.parameters:,} (with {facts.num_classes} classes)",
            f"GFLOPs           {facts.gflops:.2f} for a picture of {size}; a multiply-add counts 2, all else 0",
            f"receptive field  {sees} (theoretical)",
            f"output stride    {facts.output_stride}",
        ]
    free = ", ".join(f"{key}={default}" for key, default in default_options(entry).items() if key not in entry.options)
    lines += [
        f"published        {entry.published or '-'}",
        f"weights          {', '.join(entry.weights) or '-'}",
        *_card_lines(name),
        *_proof_lines(proof),
        textwrap.fill(f"options          {free}", 110, subsequent_indent=" " * 17),
    ]
    if entry.options:
        lines.append(f"fixed            {', '.join(f'{key}={value!r}' for key, value in entry.options.items())}")
    definition, *_ = _definitions(entry)
    return "\n".join([*lines, "", inspect.cleandoc(ast.get_docstring(definition))])


def _card_lines(name):
    lines = []
    for weights, card in read_cards(name).items():
        metrics = ", ".join(f"{metric} {value}" for metric, value in card["metrics"].items())
        for title, text in (
            (f"'{weights}'", metrics),
            ("data", card["data"]),
            ("licence", card["licence"]),
            ("command", card["command"]),
        ):
            lines.append(textwrap.fill(f"  {title:<14} {text}", 110, subsequent_indent=" " * 17))
    return lines


def _proof_lines(proof):
    formats = [(form, proof["formats"][form]) for form in proved_formats(proof)]
    lines = []
    for form, result in formats:
        found, error = ("detections", "px of their boxes") if "count" in result else ("labels", "of the logits")
        told = "" if result["error"] is None else f", error {result['error']:.1e} {error}"
        lines.append(f"{'' if lines else 'proved':<16} {form:<10} {result['agreement']:.2%} of the {found} equal Keras's{told}")
    if lines:
        options = ", ".join(f"{key}={value}" for key, value in proof["options"].items()) or "its default options"
        lines.append(f"{'':<16} with {options} at {'x'.join(map(str, proof['image_size']))}")
        if told := learned_in_words(proof):
            lines.append(f"{'':<16} after {proof['steps']} steps on the same pictures: {told}")
    return lines or ["proved           -"]


def learned_in_words(proof: dict) -> str:
    """How well the model of a proof answers the pictures that it learned; "" where that was not measured."""
    names = {"pixel_accuracy": "pixel accuracy", "boxes": "AP50", "masks": "masks' AP50", "keypoints": "keypoints' AP50"}
    return ", ".join(f"{names[key]} {value:.3f}" for key, value in proof.get("learned", {}).items())


def to_dict(name: str) -> dict:
    """All that is known of one model, for machines."""
    entry, facts, proof = find_entry(name), read_facts().get(name), read_proofs().get(name, {})
    return {
        "name": name,
        "task": entry.task,
        "paper": entry.paper,
        "weights": entry.weights,
        "cards": read_cards(name),
        "published": entry.published,
        "fixed_options": entry.options,
        **{field.name: getattr(facts, field.name, None) for field in dataclasses.fields(Facts)},
        "formats_proved": proved_formats(proof),
        "proofs": proof,
    }


def default_options(entry) -> dict[str, str]:
    """The options of an entry's class and its bases, with their defaults as they are written: read from the source.

    Importing the class would import Keras and its backend, which takes seconds.
    """
    options = {}
    for definition in _definitions(entry):
        for function in definition.body:
            if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                arguments, defaults = function.args.args, function.args.defaults
                named = arguments[len(arguments) - len(defaults) :]
                for argument, default in zip(named, defaults, strict=True):
                    options.setdefault(argument.arg, ast.unparse(default))
    options.pop("name", None)
    return options


def _definitions(entry):
    """The syntax trees of an entry's class and of its bases in this package."""
    pending, found = [tuple(entry.builder.split(":"))], []
    while pending:
        module, name = pending.pop(0)
        tree = ast.parse(HERE.joinpath(*module.split(".")[1:]).with_suffix(".py").read_text(encoding="utf-8"))
        places = {node.name: module for node in tree.body if isinstance(node, ast.ClassDef)}
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tfzoo."):
                places.update((alias.asname or alias.name, node.module) for alias in node.names)
        (definition,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
        found.append(definition)
        pending += [(places[base.id], base.id) for base in definition.bases if isinstance(base, ast.Name) and base.id in places]
    return found


def main(arguments=None) -> None:
    """Writes model_facts.json."""
    parser = argparse.ArgumentParser(prog="python -m tfzoo.facts", description="Write tfzoo/model_facts.json.")
    parser.add_argument("name", nargs="*", help="models whose facts are read anew; default: all")
    write_facts(parser.parse_args(arguments).name or None)


if __name__ == "__main__":
    main()
