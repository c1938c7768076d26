"""Random networks with everything that a graph may hold, from a seed."""

from dataclasses import dataclass, field

import numpy as np

from fedtiny.export.graph import Add, Clip, Conv, Floats, Graph, Linear, MaxPool, MeanPool, Node, Operation, Shape

__all__ = ["pictures_for", "random_graph"]


@dataclass
class _Growing:
    """A graph on its way."""

    random: np.random.Generator
    density: float
    shapes: dict[str, Shape]
    nodes: list[Node] = field(default_factory=list)

    def add(self, operation: Operation, inputs: tuple[str, ...], shape: Shape) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(Node(name, operation, inputs, shape))
        self.shapes[name] = shape
        return name

    def weight(self, *shape: int, least: float = 0.0) -> Floats:
        dead = self.random.random() < 0.05
        kept = self.random.random(shape) < max(least, 0 if dead else self.density)
        fan = max(1, np.count_nonzero(kept) / shape[0])
        weight: Floats = (self.random.standard_normal(shape) * kept * np.sqrt(2 / fan)).astype(np.float32)
        return weight

    def bias(self, outputs: int) -> Floats:
        return (0.3 * self.random.standard_normal(outputs)).astype(np.float32)

    def conv(self, x: str, outputs: int, kernel: int, stride: int, padding: int, depthwise: bool = False) -> str:
        channels, height, width = self.shapes[x]
        outputs = channels if depthwise else outputs
        weight = self.weight(outputs, 1 if depthwise else channels, kernel, kernel)
        sizes = [(size + 2 * padding - kernel) // stride + 1 for size in (height, width)]
        made = Conv(weight, self.bias(outputs), stride, padding, channels if depthwise else 1)
        return self.add(made, (x,), (outputs, *sizes))

    def clip(self, x: str) -> str:
        most = float(self.random.choice([np.inf, 6.0, 0.5]))
        return self.add(Clip(most), (x,), self.shapes[x])

    def pool(self, x: str) -> str:
        channels, height, width = self.shapes[x]
        kernel, stride = (2, 2) if min(height, width) < 5 else ((2, 2), (3, 2), (2, 1))[self.random.integers(3)]
        # As torch has it with ceil_mode: no window begins outside of the picture.
        sizes = [-(-max(size - kernel, 0) // stride) + 1 for size in (height, width)]
        sizes = [n - ((n - 1) * stride >= size) for n, size in zip(sizes, (height, width), strict=True)]
        return self.add(MaxPool(kernel, stride), (x,), (channels, *sizes))

    def residual(self, x: str) -> str:
        channels = self.shapes[x][0]
        form = self.random.integers(5)
        if form == 0:  # projected, as where a stage begins
            y = self.conv(self.clip(self.conv(x, 6, 3, 2, 1)), 6, 3, 1, 1)
            z = self.conv(x, 6, 1, 2, 0)
        elif form == 1:  # inverted, behind a depthwise convolution in its own place
            y = self.clip(self.conv(x, 2 * channels, 1, 1, 0))
            y = self.conv(self.clip(self.conv(y, 0, 3, 1, 1, depthwise=True)), channels, 1, 1, 0)
            z = x
        elif form == 2:  # what is added is clipped first
            y, z = self.clip(self.conv(x, channels, 3, 1, 1)), x
        elif form == 3:
            y = z = x
        else:
            z, y = x, self.conv(x, channels, 3, 1, 1)
        return self.add(Add(), (y, z) if self.random.random() < 0.5 else (z, y), self.shapes[y])


def random_graph(seed: int) -> Graph:
    """A network of up to a dozen operations before its head."""
    random = np.random.default_rng(seed)
    image = int(random.integers(1, 4)), int(random.integers(5, 14)), int(random.integers(5, 14))
    graph = _Growing(random, float(random.choice([1.0, 0.6, 0.3, 0.1])), {"image": image})
    x = "image"
    for _ in range(random.integers(1, 6)):
        choice = random.integers(7)
        if choice == 0 and min(graph.shapes[x][1:]) > 1:
            x = graph.pool(x)
        elif choice == 1:
            x = graph.conv(x, 0, 3, int(random.integers(1, 3)), 1, depthwise=True)
        elif choice == 2:
            x = graph.clip(x)
        elif choice <= 4:
            x = graph.residual(x)
        else:
            kernel = int(random.choice([1, 3, 5]))
            x = graph.conv(x, int(random.integers(2, 12)), kernel, int(random.integers(1, 3)), kernel // 2)
            x = graph.clip(x) if random.random() < 0.7 else x
    x = graph.add(MeanPool(), (x,), graph.shapes[x][:1])
    classes = int(random.choice([1, 5, 5, 10]))
    graph.add(Linear(graph.weight(classes, *graph.shapes[x], least=0.7), graph.bias(classes)), (x,), (classes,))
    return Graph(image, tuple(graph.nodes))


def pictures_for(graph: Graph, count: int, seed: int = 0) -> Floats:
    """(count, C, H, W) float32 pictures around 0."""
    return np.random.default_rng(seed).standard_normal((count, *graph.image)).astype(np.float32)
