"""What stands in an exported graph around the network, in ONNX's own text form: padding, thumbnail, cropping.

A graph so takes a picture of any size, as the network in torch does, and needs nothing of us to be used elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lowlight_cli.networks import Descriptor

if TYPE_CHECKING:
    from onnx import GraphProto

__all__ = ["THUMBNAIL", "framed"]

THUMBNAIL: Final = 64
"""Side of the thumbnail that some networks look at."""

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
"""`networks.layers.pad`: by reflection, except where a side is too short to reflect. Only what is added is gathered."""

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
"""torch's adaptive average: cell i of 64 is the mean over floor(i L / 64) to ceil((i + 1) L / 64), as two products."""

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
    cropped = Slice (bright, corner, cut, axes)
    black = Constant <value = float {0.0}> ()
    white = Constant <value = float {1.0}> ()
    output = Clip (cropped, black, white)
}
"""


def framed(core: GraphProto, traits: Descriptor, *, thumbnail: bool) -> GraphProto:
    """The network between padding and cropping: `input` to `output`, (N, 3, H, W), any N, H, W from 1 on, in [0, 1].

    Args:
        core: `padded` (N, 3, H', W'), and `thumbnail` (N, 3, 64, 64) where wanted, to `bright` like `padded`.
        traits: of the network.
        thumbnail: whether `core` takes one.
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
    nodes = [*front.node]
    if thumbnail:
        shares = SMALL.format(cells=THUMBNAIL, rows=SHARES.format(**rows), columns=SHARES.format(**columns))
        nodes += parser.parse_graph(shares).node
    nodes += [*core.node, *parser.parse_graph(BACK).node]
    for number, node in enumerate(nodes):
        node.name = f"{node.op_type}_{number}"
        del node.metadata_props[:]  # where in torch's sources each came from
        node.doc_string = ""
    picture: list[str | int | None] = ["N", 3, "H", "W"]
    return helper.make_graph(
        nodes,
        traits.name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, picture)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, picture)],
        initializer=core.initializer,
    )
