"""The parts of an exported graph around the network (padding, thumbnail, cropping), in ONNX's text format.

With them, a graph takes pictures of any size, as the network in torch does, and can be used without lowlight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lowlight_cli.networks import Descriptor

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = ["THUMBNAIL", "padded"]

THUMBNAIL: Final = 64
"""Side of the thumbnail that some networks take as a second input."""

FRONT: Final = """
front (float[N, 3, H, W] input) => (float[N, 3, P, Q] padded) {{
    size = Shape <start = 2> (input)
    height, width = Split <axis = 0, num_outputs = 2> (size)
    step = Constant <value_ints = [{stride}]> ()
    before = Constant <value_ints = [{before}]> ()
    least = Constant <value_ints = [{minimum}]> ()
    more = Add (size, before)
    steps = Div (more, step)
    multiple = Mul (steps, step)
    wanted = Max (multiple, least)
    lacking = Sub (wanted, size)
    few = Less (lacking, size)
    number = Cast <to = 7> (few)
    all = ReduceMin <keepdims = 1> (number)
    reflects = Cast <to = 9> (all)
    wanted_height, wanted_width = Split <axis = 0, num_outputs = 2> (wanted)
    one = Constant <value_ints = [1]> ()
    last_row = Sub (height, one)
    last_column = Sub (width, one)
    {rows}
    taller = Gather <axis = 2> (input, row)
    tall = Concat <axis = 2> (input, taller)
    {columns}
    wider = Gather <axis = 3> (tall, column)
    padded = Concat <axis = 3> (tall, wider)
}}
"""
"""`networks.layers.pad`: reflection, or replication if a side is too short for it. Gathers only the added pixels."""

ADDED: Final = """
    {name}_from = Squeeze ({length})
    {name}_to = Squeeze (wanted_{length})
    {name}_step = Squeeze (one)
    {name}s = Range ({name}_from, {name}_to, {name}_step)
    {name}_twice = Add (last_{name}, last_{name})
    {name}_reflected = Sub ({name}_twice, {name}s)
    {name} = Where (reflects, {name}_reflected, last_{name})
"""

SMALL: Final = """
small (float[N, 3, H, W] input) => (float[N, 3, 64, 64] thumbnail) {{
    small_size = Shape <start = 2> (input)
    small_height, small_width = Split <axis = 0, num_outputs = 2> (small_size)
    cells = Constant <value_ints = [{cells}]> ()
    zero = Constant <value_int = 0> ()
    unit = Constant <value_int = 1> ()
    until = Constant <value_int = {cells}> ()
    upright = Constant <value_ints = [{cells}, 1]> ()
    range = Range (zero, until, unit)
    cell = Reshape (range, upright)
    next = Add (cell, unit)
    {rows}
    {columns}
    by_rows = MatMul (row_shares, input)
    turned = Transpose <perm = [1, 0]> (column_shares)
    thumbnail = MatMul (by_rows, turned)
}}
"""
"""torch's adaptive average pooling as two matrix products: cell i of 64 is the mean over floor(i L / 64) to
ceil((i + 1) L / 64)."""

SHARES: Final = """
    {name}_start = Mul (cell, small_{length})
    {name}_first = Div ({name}_start, cells)
    {name}_end = Mul (next, small_{length})
    {name}_above = Sub (cells, unit)
    {name}_raised = Add ({name}_end, {name}_above)
    {name}_last = Div ({name}_raised, cells)
    {name}_count = Squeeze (small_{length})
    {name}_all = Range (zero, {name}_count, unit)
    {name}_after = GreaterOrEqual ({name}_all, {name}_first)
    {name}_before = Less ({name}_all, {name}_last)
    {name}_inside = And ({name}_after, {name}_before)
    {name}_mask = Cast <to = 1> ({name}_inside)
    {name}_length = Sub ({name}_last, {name}_first)
    {name}_divisor = Cast <to = 1> ({name}_length)
    {name}_shares = Div ({name}_mask, {name}_divisor)
"""

BACK: Final = """
back (float[N, 3, H, W] input, float[N, 3, P, Q] bright) => (float[N, 3, H, W] output) {
    cut = Shape <start = 2> (input)
    corner = Constant <value_ints = [0, 0]> ()
    axes = Constant <value_ints = [2, 3]> ()
    black = Constant <value = float {0.0}> ()
    white = Constant <value = float {1.0}> ()
    clamped = Clip (bright, black, white)
    output = Slice (clamped, corner, cut, axes)
}
"""


HALF: Final = """
half (float[N, 3, H, W] large) => (float[N, 3, P, Q] small) {{
    one = Constant <value_ints = [1]> ()
    whole = Constant <value = float {{1.0}}> ()
    height = Shape <start = 2, end = 3> (large)
    width = Shape <start = 3, end = 4> (large)
    rows = Constant <value = float[3, 1, 8, 1] {{{taps}, {taps}, {taps}}}> ()
    columns = Constant <value = float[3, 1, 1, 8] {{{taps}, {taps}, {taps}}}> ()
    row = Constant <value = float[1, 1, 8, 1] {{{taps}}}> ()
    column = Constant <value = float[1, 1, 1, 8] {{{taps}}}> ()
    upright = Concat <axis = 0> (one, one, height, one)
    lying = Concat <axis = 0> (one, one, one, width)
    high = Expand (whole, upright)
    wide = Expand (whole, lying)
    high_sum = Conv <strides = [2, 1], pads = [3, 0, 3, 0]> (high, row)
    wide_sum = Conv <strides = [1, 2], pads = [0, 3, 0, 3]> (wide, column)
    lower = Conv <strides = [2, 1], pads = [3, 0, 3, 0], group = 3> (large, rows)
    both = Conv <strides = [1, 2], pads = [0, 3, 0, 3], group = 3> (lower, columns)
    inside = Mul (high_sum, wide_sum)
    small = Div (both, inside)
}}
"""
"""torch's antialiased bicubic downscaling of even sides by 2, as convolutions: a runtime that ignores `antialias` is
off by twenty grey levels. At the borders, taps outside the picture have no weight."""

TAPS: Final = ", ".join(
    str(((1.5 * x - 2.5) * x * x + 1 if x <= 1 else ((-0.5 * x + 2.5) * x - 4) * x + 2) / 2)
    for x in (abs(2 * tap - 7) / 4 for tap in range(8))
)
"""Keys' cubic with a = -0.5, stretched by two, at the eight input pixels of an output pixel."""


TWICE: Final = """
twice (float[N, 3, H, W] small) => (float[N, 3, P, Q] large) {{
    around = Constant <value_ints = [0, 0, 2, 2, 0, 0, 2, 2]> ()
    rows = Constant <value = float[6, 1, 5, 1] {{{taps}, {taps}, {taps}}}> ()
    columns = Constant <value = float[12, 1, 1, 5] {{{taps}, {taps}, {taps}, {taps}, {taps}, {taps}}}> ()
    wide = Pad <mode = "edge"> (small, around)
    higher = Conv <group = 3> (wide, rows)
    phases = Conv <group = 6> (higher, columns)
    large = DepthToSpace <blocksize = 2, mode = "CRD"> (phases)
}}
"""
"""torch's bicubic upscaling by 2, as convolutions: ONNX Runtime's own takes a third of the whole network's time."""

PHASES: Final = ", ".join(
    str(((1.25 * x - 2.25) * x * x + 1 if x <= 1 else ((-0.75 * x + 3.75) * x - 6) * x + 3) if x < 2 else 0.0)
    for at in (-0.25, 0.25)
    for x in (abs(tap - at) for tap in range(-2, 3))
)
"""Keys' cubic with a = -0.75 for the two output pixels of an input pixel, each at the five input pixels around it."""


def padded(core: GraphProto, traits: Descriptor, *, thumbnail: bool) -> GraphProto:
    """Wrap the network in padding and cropping: `input` to `output`, (N, 3, H, W) in [0, 1], any N, H, W from 1 on.

    Args:
        core: a graph from `padded` (N, 3, H', W'), and `thumbnail` (N, 3, 64, 64) if wanted, to `bright`, shaped like
            `padded`, and to the network's statistics, which keep their names in the graph.
        traits: the network's descriptor.
        thumbnail: whether `core` takes a thumbnail.
    """
    from onnx import TensorProto, helper, parser

    from lowlight_cli.networks.layers import MINIMUM

    rows, columns = ({"name": "row", "length": "height"}, {"name": "column", "length": "width"})
    front = parser.parse_graph(
        FRONT.format(
            stride=traits.stride,
            before=traits.stride - 1,
            minimum=MINIMUM,
            rows=ADDED.format(**rows),
            columns=ADDED.format(**columns),
        )
    )
    nodes: list[NodeProto] = [*front.node]
    if thumbnail:
        shares = SMALL.format(cells=THUMBNAIL, rows=SHARES.format(**rows), columns=SHARES.format(**columns))
        nodes += parser.parse_graph(shares).node
    for node in core.node:
        nodes += _convolved(node) if node.op_type == "Resize" else [node]
    nodes += parser.parse_graph(BACK).node
    for number, node in enumerate(nodes):
        node.name = f"{node.op_type}_{number}"
        del node.metadata_props[:]  # the exporter's references to torch's source code
        node.doc_string = ""
    used = {name for node in nodes for name in node.input}
    measured = [each for each in core.output if each.name != "bright"]
    for each in measured:
        each.type.tensor_type.shape.dim[0].dim_param = "N"
    picture: list[str | int | None] = ["N", 3, "H", "W"]
    return helper.make_graph(
        nodes,
        traits.name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, picture)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, picture)],
        initializer=[each for each in core.initializer if each.name in used],
        value_info=measured,
    )


def _convolved(resize: NodeProto) -> list[NodeProto]:
    """Replace a bicubic `Resize`, antialiased to half or else to twice the size, by convolutions; keep any other."""
    from onnx import parser

    said = {each.name: each.s or each.i for each in resize.attribute}
    if said["mode"] != b"cubic":
        return [resize]
    if said["antialias"]:
        kind, text, ends = "half", HALF.format(taps=TAPS), ("large", "small")
    else:
        kind, text, ends = "twice", TWICE.format(taps=PHASES), ("small", "large")
    given = dict(zip(ends, (resize.input[0], resize.output[0]), strict=True))
    nodes = list(parser.parse_graph(text).node)
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [given.get(name, f"{kind}_{name}") for name in names]
    return nodes
