"""A torch module as a graph over words: traced by `torch.fx`, operation by operation.

An operation that is not known becomes opaque: it is computed on whole inputs. So does the whole
network where tracing fails, because of control flow that depends on the input for instance.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from casemate.errors import UsageError
from casemate.hardware import recognize
from casemate.hardware.graph import Graph, Node, Op, listed
from casemate.hardware.ops.joining import Add, Concat
from casemate.hardware.ops.opaque import Opaque
from casemate.hardware.ops.shaping import Reshape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["tensors_of", "traced"]

_PROBED = 3  # images: a batch whose size is no other dimension of small networks by chance
_ALIKE = 1e-3  # of the largest score: more than rounding differs by
_Known = tuple[Op, list[fx.Node]]


def traced(module: nn.Module, shape: tuple[int, ...]) -> Graph:
    """Return the module's network in evaluation mode.

    Names of tensors are those of the module's parameters and buffers.

    Args:
        module: In float32 on the CPU, in evaluation mode; left as it is.
        shape: Of one input as the module gets it.

    Raises:
        UsageError: If it takes no such input, does not return one tensor with one row an input, or
            is random.
    """
    probe = torch.zeros(_PROBED, *shape)
    graph = _traced(module, shape, probe)
    x = torch.randn(_PROBED, *shape, generator=torch.Generator().manual_seed(0))
    values = {n: t.detach() for n, t in tensors_of(module).items()}
    with torch.no_grad():
        one, two = (graph.forward(values, x.clone()) for _ in range(2))
    if not torch.allclose(one, two, rtol=_ALIKE, atol=0.0, equal_nan=True):
        raise UsageError(
            f"{type(module).__name__} gives other scores each time it is asked, so that no fault "
            "can be told from chance; turn off what is random in it, such as dropout at inference"
        )
    return graph


def _traced(module: nn.Module, shape: tuple[int, ...], probe: Tensor) -> Graph:
    try:
        wrapped = fx.GraphModule(module, _Tracer().trace(module))
        _check_inputs(module, wrapped)
        seen = _Shapes(wrapped)
        with torch.no_grad():
            seen.run(probe)
        graph = _Builder(module, wrapped, seen.outputs, shape).graph()
        return _checked(graph, module, shape)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - tracing a user's code fails in any way it likes
        return _opaque(module, probe, shape, error)


def _check_inputs(module: nn.Module, wrapped: fx.GraphModule) -> None:
    if sum(n.op == "placeholder" for n in wrapped.graph.nodes) != 1:
        raise UsageError(
            f"{type(module).__name__} takes more than one input, and a model under test gets one; "
            "wrap it in a module that takes a batch of inputs"
        )


def _checked(graph: Graph, module: nn.Module, shape: tuple[int, ...]) -> Graph:
    """Return the graph if it computes what the module does.

    Raises:
        ValueError: If it does not, as where an operation works in place or a hook changes a result.
    """
    x = torch.randn(_PROBED, *shape, generator=torch.Generator().manual_seed(0))
    values = {n: t.detach() for n, t in tensors_of(module).items()}
    with torch.no_grad():
        ours, theirs = graph.forward(values, x.clone()), module(x.clone())
    off = _ALIKE * float(theirs.abs().nan_to_num(0.0, 0.0, 0.0).max())
    if not torch.allclose(ours, theirs, rtol=0.0, atol=off, equal_nan=True):
        raise ValueError("what it computes is not what its parts do one after another")
    return graph


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and floating-point buffers by name, each once."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor
    return found


def _opaque(module: nn.Module, probe: Tensor, shape: tuple[int, ...], error: Exception) -> Graph:
    """Return the whole module as one operation."""
    tensors = tensors_of(module)
    run = _call_of(module, "the model")
    try:
        with torch.no_grad():
            out = run({n: t.detach() for n, t in tensors.items()}, probe)
    except UsageError:
        raise
    except Exception as failure:
        raise UsageError(
            f"{type(module).__name__} takes no batch of inputs of shape {tuple(shape)} "
            f"({_first_line(failure)}); "
            "give the shape of one input as the module gets it"
        ) from failure
    if out.ndim == 0 or len(out) != len(probe):
        raise UsageError(
            f"the model returned {tuple(out.shape)} for {len(probe)} inputs; a classifier returns "
            "one row an input"
        )
    note = (
        f"{type(module).__name__} cannot be traced ({_first_line(error)}), so each fault takes "
        "whole passes through the model, which is slow; its figures are the same"
    )
    node = Node("model", Opaque(run=run, tensors=tuple(tensors)), (-1,), tuple(out.shape[1:]))
    return Graph(nodes=(node,), shape=shape, notes=(note,))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


class _Tracer(fx.Tracer):
    """Traces through modules of the user's, down to those of torch."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        inner = m.__module__.startswith("torch.nn")
        return (inner and not isinstance(m, nn.Sequential)) or super().is_leaf_module(
            m, module_qualified_name
        )


class _Shapes(fx.Interpreter):
    """Runs a batch and keeps what each node gave."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.outputs: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        out = super().run_node(n)
        # an operation in place may change it later: its shape is all that is needed then
        self.outputs[n.name] = torch.empty_like(out) if isinstance(out, Tensor) else out
        return out


def _slow(nodes: Sequence[Node]) -> tuple[str, ...]:
    """Return a note on the operations that only their code knows, if there are any."""
    names = [n.name for n in nodes if isinstance(n.op, Opaque)]
    if not names:
        return ()
    note = (
        f"{listed(names)} run on whole inputs behind a fault, and changes in "
        "front of them are followed however small they are, which is slow; the figures are the same"
    )
    return (note,)


class _Builder:
    """Makes the graph of a traced module."""

    def __init__(
        self,
        module: nn.Module,
        wrapped: fx.GraphModule,
        outputs: dict[str, Any],
        shape: tuple[int, ...],
    ) -> None:
        self.module = module
        self.traced = wrapped
        self.outputs = outputs
        self.shape = shape
        self.names = {id(t): n for n, t in tensors_of(module).items()}
        self.nodes: list[Node] = []
        self.at: dict[fx.Node, int] = {}

    def graph(self) -> Graph:
        needed = self._needed()
        for node in self.traced.graph.nodes:
            if node not in needed:
                continue
            if node.op == "placeholder":
                self.at[node] = -1
            elif node.op == "output":
                (result,) = node.args
                if not isinstance(result, fx.Node):
                    raise TypeError(f"it returns {type(result).__name__} and not one tensor")
                return self._ended(result)
            elif node.op != "get_attr" and isinstance(self.outputs[node.name], Tensor):
                self._add(node)
        raise TypeError("it returns nothing")

    def _needed(self) -> set[fx.Node]:
        """Return the nodes that the result takes, itself included."""
        left = [n for n in self.traced.graph.nodes if n.op in ("output", "placeholder")]
        found: set[fx.Node] = set()
        while left:
            node = left.pop()
            if node not in found:
                found.add(node)
                left.extend(node.all_input_nodes)
        return found

    def _ended(self, result: fx.Node) -> Graph:
        """Return the graph that ends with that node, without what it does not need."""
        end = self.at[result]
        needed = {end}
        for i in range(end, -1, -1):
            if i in needed:
                needed.update(j for j in self.nodes[i].inputs if j >= 0)
        place = {old: new for new, old in enumerate(sorted(needed))} | {-1: -1}
        kept = tuple(
            Node(n.name, n.op, tuple(place[j] for j in n.inputs), n.shape, n.holds)
            for i, n in enumerate(self.nodes)
            if i in needed
        )
        if not kept:
            raise TypeError("it returns its input")
        return Graph(nodes=kept, shape=self.shape, notes=_slow(kept))

    def _add(self, node: fx.Node) -> None:
        source = node
        if self._is_one_of_several(node):
            source = cast("fx.Node", node.args[0])
        name = str(source.target) if source.op == "call_module" else node.name
        op, inputs = self._known(node) or self._generic(node)
        out = self.outputs[node.name]
        if out.shape[:1] != (_PROBED,) or not out.is_floating_point():
            raise TypeError(f"{name} returns {tuple(out.shape)} for {_PROBED} inputs")
        used = {n.name for n in self.nodes}
        while name in used:  # a module that runs twice
            name += "'"
        self.at[node] = len(self.nodes)
        inner = tuple(out.shape[1:])
        self.nodes.append(Node(name, op, tuple(self.at[n] for n in inputs), inner))

    def _known(self, node: fx.Node) -> _Known | None:
        """Return the operation and its inputs if it is one with a shortcut."""
        if node.target is torch.cat:
            return self._concat(node)
        sources = [a for a in node.args if isinstance(a, fx.Node)]
        if node.target in recognize.RESHAPES and sources and sources[0] in self.at:
            return self._reshape(node, sources[0])  # to sizes that may be computed
        if not sources or any(s not in self.at for s in sources):
            return None
        if node.op == "call_module":
            return self._module(node, sources)
        if node.target in recognize.ADDS:
            same = len({self._shape(s) for s in sources}) == 1
            two = len(sources) == len(node.args) == 2  # noqa: PLR2004 - summands
            return (Add(), sources) if same and two and not node.kwargs else None
        first = sources[0]
        op = None
        if node.target in recognize.POOLS:
            op = recognize.pool(node.target, node.args[1:], node.kwargs, self._shape(first))
        elif len(sources) == 1:
            op = recognize.elementwise(node.target, node.kwargs)
        return None if op is None else (op, [first])

    def _module(self, node: fx.Node, sources: list[fx.Node]) -> _Known | None:
        path = str(node.target)
        module = self.traced.get_submodule(path)
        if len(node.args) != 1 or node.kwargs:
            return None
        if type(module) is nn.Flatten:
            return self._reshape(node, sources[0])
        op = recognize.of_module(
            module, lambda local: self._name(module, path, local), self._shape(sources[0])
        )
        return None if op is None else (op, sources)

    def _reshape(self, node: fx.Node, source: fx.Node) -> _Known | None:
        """Return a view that leaves each sample's elements in their order."""
        before, after = self.outputs[source.name], self.outputs[node.name]
        # torch keeps the order of elements, so a sample stays a sample if the batch stays in front
        same = after.shape[:1] == before.shape[:1] and after.numel() == before.numel()
        return (Reshape(tuple(after.shape[1:])), [source]) if same else None

    def _concat(self, node: fx.Node) -> _Known | None:
        parts = node.args[0] if node.args else node.kwargs.get("tensors")
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if not isinstance(parts, (list, tuple)) or dim != 1:
            return None
        sources = [p for p in parts if isinstance(p, fx.Node) and p in self.at]
        return (Concat(), sources) if len(sources) == len(parts) else None

    def _generic(self, node: fx.Node) -> _Known:
        """Return an operation that calls what the node calls."""
        if self._is_one_of_several(node):  # such as attention, of that and its weights
            op, inputs = self._generic(cast("fx.Node", node.args[0]))
            assert isinstance(op, Opaque)  # noqa: S101 - it never is another here
            which = cast("Any", node.args[1])
            several = cast("Any", op.run)
            return Opaque(run=lambda v, *xs: several(v, *xs)[which], tensors=op.tensors), inputs
        inputs = [n for n in node.all_input_nodes if n in self.at]
        constants = [n for n in node.all_input_nodes if n not in self.at]
        if any(n.op != "get_attr" for n in constants):
            raise TypeError(f"{node.name} depends on sizes that are computed")
        held = {n: self._attribute(str(n.target)) for n in constants}
        call, names = self._called(node)

        def run(values: Mapping[str, Tensor], *xs: Tensor) -> Tensor:
            # what works in place must not change what a cache holds
            given: dict[fx.Node, Any] = {n: x.clone() for n, x in zip(inputs, xs, strict=True)} | {
                n: values[v] if isinstance(v, str) else v for n, v in held.items()
            }
            args: Any = fx.map_arg(node.args, lambda n: given[n])
            kwargs: Any = fx.map_arg(node.kwargs, lambda n: given[n])
            return cast("Tensor", call(values, *args, **kwargs))

        read = (*names, *(n for n in held.values() if isinstance(n, str)))
        return Opaque(run=run, tensors=tuple(dict.fromkeys(read))), inputs

    def _is_one_of_several(self, node: fx.Node) -> bool:
        """Return whether a node is one of the tensors that another returns."""
        source = node.args[0] if node.args else None
        picks = node.target is operator.getitem and isinstance(source, fx.Node)
        return picks and isinstance(self.outputs[cast("fx.Node", source).name], (tuple, list))

    def _called(self, node: fx.Node) -> tuple[Callable[..., Any], tuple[str, ...]]:
        """Return what a node calls with all tensors and its arguments, and which it reads."""
        target = cast("Any", node.target)
        if node.op == "call_method":
            return lambda _, x, *args, **kwargs: getattr(x, target)(*args, **kwargs), ()
        if node.op != "call_module":
            return lambda _, *args, **kwargs: target(*args, **kwargs), ()
        module = self.traced.get_submodule(target)
        names = {local: self._name(module, target, local) for local in tensors_of(module)}

        def call(values: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
            own = {local: values[name] for local, name in names.items()}
            return functional_call(module, own, args, kwargs)

        return call, tuple(names.values())

    def _attribute(self, path: str) -> Any:
        """Return the name of a parameter or buffer, or any other attribute itself."""
        value: Any = self.traced
        for part in path.split("."):
            value = getattr(value, part)
        return self.names.get(id(value), value)

    def _name(self, module: nn.Module, path: str, local: str) -> str:
        """Return the name in memory of a module's tensor, which several may share."""
        tensor: Any = module
        for part in local.split("."):
            tensor = getattr(tensor, part)
        return self.names.get(id(tensor), f"{path}.{local}")

    def _shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(self.outputs[node.name].shape[1:])


def _call_of(module: nn.Module, name: str) -> Callable[..., Tensor]:
    """Return a function that calls the module with given tensors."""

    def call(values: Mapping[str, Tensor], *xs: Tensor) -> Tensor:
        out = functional_call(module, dict(values), tuple(x.clone() for x in xs))
        if not isinstance(out, Tensor):
            raise UsageError(
                f"{name} returned {type(out).__name__} and not a tensor; wrap it in a module that "
                "returns one row of scores an input"
            )
        return out

    return call
