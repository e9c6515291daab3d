"""Names the nodes and tensors of an ONNX graph after the Keras layers they come from."""

from collections.abc import Collection

import onnx_ir as ir

from export.node_names import layer_of


def in_canonical_order(model: ir.Model) -> None:
    """Sort the nodes so that their order depends on their connections alone.

    The ancestors of each output come before it, in the order in which they are read. Converters
    iterate over sets, whose order differs from run to run.
    """
    graph = model.graph
    place: dict[ir.Node, int] = {}
    stack = [(value.producer(), False) for value in reversed(graph.outputs)]
    while stack:
        node, is_ready = stack.pop()
        if node is None or node.graph is not graph or node in place:
            continue
        if is_ready:
            place[node] = len(place)
            continue
        stack.append((node, True))
        read = [value for value in _read_by(node) if value is not None]
        stack.extend((value.producer(), False) for value in reversed(read))
    nodes = sorted(graph, key=place.__getitem__)
    graph.remove(nodes)
    graph.extend(nodes)


def _read_by(node: ir.Node) -> list[ir.Value | None]:
    """Return the values that `node` and its subgraphs read."""
    found = list(node.inputs)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph():
                found.extend(_read_by(inner))
    return found


def name_after_layers(model: ir.Model, layers: Collection[str]) -> None:
    """Rename nodes and their outputs `<layer>/<operator>`, and constants `<node>.<index>`.

    Names depend only on the graph, so the same model gives the same file. Inputs and outputs of
    the graph keep their names. A node that belongs to no layer is named after the layer that it
    reads from.

    Args:
        model: Graph with its nodes in canonical order.
        layers: Names of the model's layers.
    """
    _Namer(model.graph, layers).name_nodes(model.graph, model.graph.name or "graph")


class _Namer:
    """Names the nodes of a graph and of its subgraphs; stores the used names and the layers."""

    def __init__(self, graph: ir.Graph, layers: Collection[str]) -> None:
        self.layers = layers
        self.given = {*graph.inputs, *graph.outputs}
        self.taken = {value.name for value in self.given}
        self.origin = {value: value.name or "" for value in graph.inputs}

    def name_nodes(self, graph: ir.Graph, default: str) -> None:
        """Name the nodes of `graph`. `default` names a node of no layer that reads nothing."""
        constants: dict[ir.Value, str] = {}
        for node in graph:
            read = [self.origin[value] for value in node.inputs if value in self.origin]
            layer = layer_of(node.name or "", self.layers) or (read[0] if read else default)
            node.name = self._unique(f"{layer}/{node.op_type}")
            self._name_outputs(node, layer)
            for place, value in enumerate(node.inputs):
                if value is not None and value.is_initializer() and value.graph is graph:
                    constants.setdefault(value, f"{node.name}.{place}")
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH:
                    self._name_subgraph(attribute.as_graph(), node, layer)
        self._name_constants(graph, constants, default)

    def _name_outputs(self, node: ir.Node, layer: str) -> None:
        for number, value in enumerate(node.outputs):
            self.origin[value] = layer
            if value not in self.given:
                value.name = node.name if number == 0 else f"{node.name}:{number}"

    def _name_constants(self, graph: ir.Graph, names: dict[ir.Value, str], default: str) -> None:
        """Name the constants and order them like `names`; only loops read the remaining ones."""
        for value in graph.initializers.values():
            if value in self.given:
                names[value] = value.name
            elif value not in names:
                names[value] = self._unique(f"{default}/constant")
        graph.initializers.clear()
        for value, name in names.items():
            value.name = value.const_value.name = name
            graph.initializers[name] = value

    def _name_subgraph(self, graph: ir.Graph, node: ir.Node, layer: str) -> None:
        graph.name = f"{node.name}/body"
        for number, value in enumerate(graph.inputs):
            value.name, self.origin[value] = f"{node.name}/input.{number}", layer
        self.name_nodes(graph, layer)

    def _unique(self, name: str) -> str:
        number, unique = 1, name
        while unique in self.taken:
            number += 1
            unique = f"{name}_{number}"
        self.taken.add(unique)
        return unique
