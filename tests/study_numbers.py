"""Numbers in the form that the parts of studies return, and the signs that they must give."""

import numpy as np

SEEDS = 6


def around(value, spread=1e-3):
    """Return measurements of six seeds near a value."""
    return [value + spread * step for step in (-1, 1, -0.5, 0.5, 0.2, -0.2)]


def curves(last, epochs=3):
    """Return losses of six seeds that end near a value."""
    return [around(last + 1.0)] * (epochs - 1) + [around(last)]


def trapezoid(raw, products, hidden):
    return {
        name: {"r2": around(value, spread), "area": [1.0, 2.0], "predicted": [1.1, 2.1]}
        for name, value, spread in (
            ("raw", raw, 1e-3), ("products", products, 1e-6), ("hidden", hidden, 1e-3)
        )
    }  # fmt: skip


def softmax(*right):
    return {
        "cross validation": {
            "right": [float(flower < count) for count in right for flower in range(50)],
            "classes": np.repeat(range(3), 50),
            "labels": ["setosa", "versicolor", "virginica"],
            "accuracies": around(0.9),
            "confusion": [[50, 0, 0], [0, 40, 10], [0, 5, 45]],
        }
    }


def linear_stack(largest, stack, bent, tanh):
    return {
        "single": {"losses": curves(0.05)},
        "stack": {"losses": curves(stack), "collapsed": [largest] * SEEDS},
        "tanh": {"losses": curves(tanh), "collapsed": around(bent)},
    }


def depth_or_width(*deep):
    return {
        f"{width}, {depth}": {
            "width": width,
            "depth": depth,
            "hidden": [width] * depth,
            "weights": 75 * width + 10,
            "accuracies": around(0.8 if depth == 1 else value),
        }
        for width, value in zip((5, 10), deep, strict=True)
        for depth in (1, 2)
    }


def worked_example(*changes):
    from app.studies.claims.worked_example import EXPECTED, RUNTIMES

    layers = np.array(EXPECTED).transpose(1, 0, 2)
    found = {name: layers + change for name, change in zip(RUNTIMES, changes, strict=True)}
    return {"values": {name: value.tolist() for name, value in found.items()}}


def xor_limit(logistic, distances, cascade):
    solved = {"logistic": logistic, "distances": distances, "cascade": cascade}
    found = {
        name: {"right": [1.0] * count + [0.5] * (SEEDS - count)} for name, count in solved.items()
    }
    found["cascade"]["features"] = [[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.1]]
    return found


def gates(or_, xor, two, four, active, size):
    def solved(count):
        return [True] * count + [False] * (SEEDS - count)

    plain = {"OR": solved(or_), "XOR": solved(xor)}
    return {
        "number": plain,
        "bits": plain,
        "hidden 2": {"OR": solved(6), "XOR": solved(two)},
        "hidden 4": {
            "OR": solved(6),
            "XOR": solved(four),
            "active": around(4, 0.1),
            "weights": around(5.0),
        },
        "hidden 4, L2": {
            "OR": solved(6),
            "XOR": solved(6),
            "active": around(active, 0.1),
            "weights": around(size),
        },
    }


def eight_states(shallow, deep, trained=0.99):
    return {
        name: {
            "accuracies": [around(accuracy)] * 7,
            "guessed": [around(0.55)] * 7,
            "trained": [around(learned)] * 7,
        }
        for name, accuracy, learned in (("8", shallow, 0.99), ("2+3", deep, trained))
    }


def no_structure(deep, least, last):
    return {
        "random, 8": {"accuracies": around(0.48)},
        "random, 2+3": {"accuracies": around(deep)},
        "two targets, 8": {"losses": [around(least, 0), around(last)]},
        "two targets, 2+3": {"losses": [around(least, 0), around(last)]},
    }


def vanishing(slope, sigmoid, relu, seeds=SEEDS):
    def numbers(activation, depth, factor):
        steps = np.arange(depth, 0, -1)[:, np.newaxis]
        spread = np.array(around(1.0, 1e-4))[:seeds]
        return {
            "activation": activation,
            "depth": depth,
            "norms": (factor**steps * spread).tolist(),
            "shrunk": np.repeat(slope ** steps.astype(float), seeds, axis=1).tolist(),
        }

    return {
        f"{name}, {depth}": numbers(name, depth, factor)
        for name, factor in (("sigmoid", sigmoid), ("tanh", 0.6), ("relu", relu))
        for depth in (2, 10)
    }


def dead_relu(large, first, last, woken):
    def case(start, end, accuracy):
        return {"silent": [around(start, 0), around(end)], "accuracies": around(accuracy)}

    relu = {
        "suitable": case(0.0, 0.1, 0.9),
        "large": {**case(0.0, large, 0.5), "woken": around(0.0 if large > 0.5 else 0.5)},
        "bad start": {"silent": [[first] * SEEDS, [last] * SEEDS], "accuracies": around(0.1)},
    }
    other = {
        "suitable": case(0.0, 0.1, 0.9),
        "bad start": case(1.0, woken, 0.1 + (1 - woken)),
        "large": case(0.0, 0.05, 0.9),
    }
    return {"relu": relu, "leaky_relu": other, "prelu": other}


def initialization(apart, starved, stuck, own, kept):
    def numbers(last, ratio=1.0):
        squares = [around(1.0), (np.array(around(1.0)) * ratio).tolist()]
        found = {"losses": curves(last), "activations": squares, "apart": [apart] * SEEDS}
        return {**found, "gradients": squares}

    def activation(better, worse):
        return {
            "zeros": numbers(2.3),
            "normal": numbers(stuck, starved),
            better: numbers(own, kept),
            worse: numbers(0.5),
        }

    return {
        "tanh": activation("xavier_normal", "kaiming_normal"),
        "relu": activation("kaiming_normal", "xavier_normal"),
    }


def by_rate(values, rates):
    """Return losses of all seeds, twice as large at every rate except one inside the grid."""
    factors = np.full(len(rates), 2.0)
    factors[1] = 1.0
    return (values[:, np.newaxis] * factors)[..., np.newaxis].repeat(SEEDS, 2)


def losses(softmax, nats, apart, slow):
    from app.studies.claims.losses import RATES

    def accuracies(epochs):
        errors = np.where(np.arange(40) >= epochs, 0.05, 0.4)
        return (1 - by_rate(errors, RATES)).tolist()

    figures = {"nats": nats, "bits": nats / np.log(2), "log10": nats / np.log(10)}
    return {
        "figures": {"softmax": softmax, "apart": apart, **figures},
        "cross_entropy": {"accuracies": accuracies(5)},
        "mse": {"accuracies": accuracies(slow)},
    }


def regularization(zeros, size, gap, trained=0.0):
    def numbers(test):
        return {
            "train": around(trained),
            "test": around(test + trained),
            "zeros": around(0.0),
            "size": around(1),
        }

    found = {name: numbers(0.5) for name in ("none", "L1", "L2", "none, images")}
    found |= {name: numbers(gap) for name in ("dropout", "batch", "layer", "group")}
    found["instance, images"] = numbers(gap)
    found["L1"]["zeros"], found["L2"]["size"] = around(zeros), around(size)
    return found


def optimizers(*epochs):
    from app.studies.claims.optimizers import OPTIMIZERS, REACHED

    def numbers(name, needed):
        values = np.where(np.arange(1, 41) >= needed, REACHED / 2, 1.0)
        return {"losses": by_rate(values, OPTIMIZERS[name]).tolist()}

    return {name: numbers(name, each) for name, each in zip(OPTIMIZERS, epochs, strict=True)}


def very_deep(shallow, deep, both, alone):
    at = {"plain": (shallow, deep), "residual, normalized": (0.95, both)}
    at |= dict.fromkeys(("plain, normalized", "residual"), (0.95, alone))
    return {
        f"{arm}, {depth} layers": {"arm": arm, "depth": depth, "accuracies": around(accuracy)}
        for arm, pair in at.items()
        for depth, accuracy in zip((10, 100), pair, strict=True)
    }


def abstraction(*layers):
    points = [[[0.0, 1.0], [1.0, 0.0]]] * len(layers)
    accuracies = [around(value) for value in layers]
    return {"digit nets": {"accuracies": accuracies, "points": points, "classes": [3, 7]}}


def ink(small, large):
    confusion = np.eye(10, dtype=int).tolist()
    return {
        units: {
            "accuracies": around(accuracy),
            "right": [float(digit < 1000 * accuracy) for digit in range(1000)],
            "confusion": confusion,
        }
        for units, accuracy in (("16", small), ("256", large))
    }


FLOOR = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
SOFTMAX = [0.8789, 0.1189, 0.0022]
# Numbers, and the sign that each claim of the study must get: ✓ holds, ? not shown, ✗ refuted.
CASES = {
    "softmax": (
        (softmax(50, 48, 47), "✓✓"),
        (softmax(50, 50, 44), "✓?"),
        (softmax(50, 40, 20), "✗✗"),
    ),
    "trapezoid": (
        (trapezoid(0.9, 1.0, 0.999), "✓✓✓"),
        (trapezoid(0.9, 1.0, 0.9), "✓✓?"),
        (trapezoid(0.995, 0.9, 0.8), "✗✗✗"),
    ),
    "worked-example": (
        (worked_example(0, 0.004, -0.004), "✓✓✓"),
        (worked_example(0, 0, 0.01), "✓✓✗"),
    ),
    "linear-stack": (
        (linear_stack(1e-7, 0.05, 0.5, 0.01), "✓✓✓✓"),
        (linear_stack(1e-7, 0.05, 0.01, 0.05), "✓✓??"),
        (linear_stack(1e-3, 0.2, 0.0, 0.2), "✗✗✗✗"),
    ),
    "xor-limit": (
        (xor_limit(0, 6, 6), "✓✓✓"),
        (xor_limit(0, 6, 3), "✓✓?"),
        (xor_limit(1, 0, 0), "✗✗✗"),
    ),
    "gates": (
        (gates(6, 0, 0, 6, 2, 3.0), "✓✓✓✓✓"),
        (gates(5, 1, 6, 6, 4, 5.0), "?✗???"),
        (gates(0, 0, 6, 0, 4.5, 7.0), "✗✓✗✗✗"),
    ),
    "ink": ((ink(0.9, 0.97), "✓✓"), (ink(0.97, 0.97), "✓?"), (ink(0.9, 0.8), "✗✗")),
    "depth-or-width": (
        (depth_or_width(0.9, 0.9), "✓✓"),
        (depth_or_width(0.7, 0.9), "✗✓"),
        (depth_or_width(0.8, 0.7), "?✗"),
    ),
    "eight-states": (
        (eight_states(0.6, 0.9), "✓✓"),
        (eight_states(0.5, 0.5), "✗?"),
        (eight_states(0.6, 0.5), "✓✗"),
    ),
    "no-structure": (
        (no_structure(0.48, FLOOR, FLOOR + 0.001), "✓✓✓✓"),
        (no_structure(0.51, FLOOR, FLOOR + 0.005), "?✓✓?"),
        (no_structure(0.9, 0.1, FLOOR + 0.1), "✗✗✗✗"),
    ),
    "losses": (
        (losses(SOFTMAX, 0.35667, 1e-7, 20), "✓✓✓"),
        (losses([0.9, 0.1, 0.0], 0.35667, 1e-7, 5), "✗✓?"),
        (losses(SOFTMAX, 0.4, 1.0, 3), "✗✗✗"),
    ),
    "optimizers": (
        (optimizers(30, 20, 12, 9, 8, 5), "✓✓✓✓✓"),
        (optimizers(30, 10, 10, 10, 10, 10), "✓????"),
        (optimizers(10, 5, 10, 10, 10, 10), "✓✗✗✗✗"),
    ),
    "vanishing": (
        (vanishing(0.25, 0.2, 0.95), "✓✓✓"),
        (vanishing(0.25, 0.5, 0.794328), "✓??"),
        (vanishing(0.3, 0.9, 0.5), "✗✗✗"),
    ),
    "dead-relu": (
        (dead_relu(0.9, 1.0, 1.0, 0.1), "✓✓✓✓✓✓✓"),
        (dead_relu(0.1, 1.0, 0.5, 1.0), "?✗✗?✓?✓"),
        (dead_relu(0.02, 1.0, 1.0, 1.05), "✗✗✓✗✗✗✗"),
    ),
    "initialization": (
        (initialization(0, 1e-9, 2.3, 0.1, 0.5), "✓✓✓✓✓✓✓"),
        (initialization(0, 1e-9, 2.0, 0.5, 0.1), "✓✓?????"),
        (initialization(0.1, 0.5, 1.0, 0.9, 1e-3), "✗✗✗✗✗✗✗"),
    ),
    "very-deep": (
        (very_deep(0.95, 0.1, 0.95, 0.3), "✓✓✓✓"),
        (very_deep(0.5, 0.5, 0.5, 0.95), "??✗✗"),
        (very_deep(0.5, 0.9, 0.4, 0.3), "✗✗✓✓"),
    ),
    "regularization": (
        (regularization(0.6, 0.5, 0.2), "✓✓✓✓✓✓✓"),
        (regularization(0.0, 1, 0.5), "???????"),
        (regularization(-0.1, 1.5, 0.9), "✗✗✗✗✗✗✗"),
    ),
    "abstraction": (
        (abstraction(0.8, 0.85, 0.9, 0.95, 0.99), "✓✓"),
        (abstraction(0.9, 0.9, 0.9, 0.9, 0.9), "??"),
        (abstraction(0.9, 0.8, 0.8, 0.8, 0.8), "✗✗"),
    ),
}  # fmt: skip
